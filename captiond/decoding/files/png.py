"""PNG files (W3C PNG, third edition). Of an animation, the first frame is read.

That is the default image, unless the animation leaves it out.
"""

import struct
import zlib
from functools import partial

from captiond.decoding.files.colour_coding import ColourCoding
from captiond.decoding.files.directory import orientation_of
from captiond.decoding.files.made_profile import SRGB_POINTS, Point, made_profile
from captiond.decoding.files.plain import Canvas, PlainFile
from captiond.errors import CorruptImage, ImageTooSlow, ImageTypeRefused

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 100_000  # a file of 20 MB in chunks of 8 kB has 2,500
MAX_TEXT = 1 << 20  # bytes that a compressed text or profile may have
GREYS = {0, 4}  # colour types
SCALE, POINTS = 100_000, struct.Struct(">8I")  # of gAMA and cHRM
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
DEFAULT_IS_FRAME = b""  # a mark among the kinds of chunks
REPEATED = {b"IDAT", b"fcTL", b"iTXt", b"tEXt", b"zTXt"}
# The passes of an interlaced image: the first column and row of each, and the steps between them.
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)),
    (0, 1, 1, 2),
)
ONE_PASS = ((0, 0, 1, 1),)
PIECE, UNPACKED = 1 << 14, 1 << 20  # bytes that are decompressed at a time
RAW_EXIF = (b"Raw profile type exif\0", b"Raw profile type APP1\0")  # as ImageMagick writes it


def plain_png(content: bytes) -> PlainFile:
    """Return a PNG that has nothing but its pixels, and the checksums that these need.

    Raises:
        CorruptImage: it has no header, or no pixels.
        ImageTooSlow: it has too many chunks.
        ImageTypeRefused: its pixels are not those of PNG.
    """
    chunks = read_chunks(content)
    if b"CgBI" in chunks:
        raise ImageTypeRefused(
            "this is a PNG image in the form of apps for iPhones (CgBI), which captiond does not "
            "read; convert it to a usual PNG"
        )
    header = b"".join(chunks.get(b"IHDR", [])[:1])
    if len(header) != 13 or b"IDAT" not in chunks:
        raise CorruptImage("the image has no header, or no pixels")
    width, height, bits, colour = struct.unpack(">IIBB", header[:10])
    kept = [chunk(kind, chunks[kind][0]) for kind in (b"PLTE", b"tRNS") if kind in chunks]
    canvas = Canvas(width, height)
    frame, pixels = first_frame(chunks, canvas)
    header = struct.pack(">II", frame.width, frame.height) + header[8:]
    return PlainFile(
        content=b"".join(
            (
                SIGNATURE,
                chunk(b"IHDR", header),
                *kept,
                chunk(b"IDAT", pixels),
                chunk(b"IEND", b""),
            )
        ),
        width=frame.width,
        height=frame.height,
        canvas=None if frame == canvas else Canvas(width, height, frame.left, frame.top),
        pixel_bytes=bytes_in_memory(bits, CHANNELS.get(colour, 4)),
        row_bytes=2 * width * bits * CHANNELS.get(colour, 4) // 8,
        orientation=orientation_of(exif_of(chunks), xmp_of(chunks)),
        profile=profile_of(chunks, grey=colour in GREYS),
        coding=coding_of(chunks),
        check_rows=partial(check_rows, header, pixels),
    )


def check_rows(header: bytes, pixels: bytes) -> None:
    """Refuse an image whose compressed pixels end before its last row does.

    Raises:
        CorruptImage: rows are missing.
    """
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits *= CHANNELS.get(colour, 4)
    needed = sum(
        len(range(top, height, down)) * row_bytes(len(range(left, width, across)), bits)
        for left, top, across, down in (ADAM7 if interlaced else ONE_PASS)
    )
    present = unpacked_length(pixels, needed)
    if present < needed:
        row = 0 if interlaced else present // row_bytes(width, bits)
        raise CorruptImage(
            f"the image is truncated: data are missing from row {row} of {height} on"
        )


def row_bytes(width: int, bits: int) -> int:
    """Return the bytes of a row with the number of its filter. A pass without columns has none."""
    return 1 + (width * bits + 7) // 8 if width else 0


def unpacked_length(packed: bytes, most: int) -> int:
    """Return the length of decompressed data, or `most` if they are longer.

    Raises:
        zlib.error: the data are damaged.
    """
    unpacker, length = zlib.decompressobj(), 0
    view = memoryview(packed)
    for at in range(0, len(view), PIECE):
        piece: bytes | memoryview = view[at : at + PIECE]
        while piece and not unpacker.eof:
            length += len(unpacker.decompress(piece, UNPACKED))
            piece = unpacker.unconsumed_tail
            if length >= most:
                return most
    return min(most, length + len(unpacker.flush()))


def bytes_in_memory(bits: int, channels: int) -> float:
    if channels > 1:
        return 4.0
    return 4.0 if bits == 16 else 1.0  # Pillow's pixels, and an array of them


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def read_chunks(content: bytes) -> dict[bytes, list[bytes]]:
    """Return the data of the chunks by their kind, without those of an animation's frames.

    Checksums are not compared: that of the compressed pixels, within them, is.
    """
    chunks: dict[bytes, list[bytes]] = {}
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        kind = content[at + 4 : at + 8]
        if len(kind) < 4 or kind == b"IEND":
            return chunks
        length = int.from_bytes(content[at : at + 4], "big")
        if is_kept(kind, chunks):
            chunks.setdefault(kind, []).append(content[at + 8 : at + 8 + length])
        at += length + 12
    raise ImageTooSlow(f"the file has more than {MAX_CHUNKS} chunks")


def is_kept(kind: bytes, chunks: dict[bytes, list[bytes]]) -> bool:
    """Return whether a chunk is one that is read: the first one, or one of several.

    Of `fdAT` only those of the first frame are, if it is not the default image. The number of the
    frames' headers is counted for that.
    """
    if kind == b"fdAT":
        return DEFAULT_IS_FRAME not in chunks and len(chunks.get(b"fcTL", [])) == 1
    if kind == b"IDAT" and b"fcTL" in chunks:
        chunks[DEFAULT_IS_FRAME] = []
    if kind == b"acTL" and b"IDAT" in chunks:
        return False
    return kind not in chunks or kind in REPEATED


def first_frame(chunks: dict[bytes, list[bytes]], canvas: Canvas) -> tuple[Canvas, bytes]:
    """Return where the first frame is, and its compressed pixels.

    A file that does not announce frames as it must is no animation, and shows the default image.
    """
    default = canvas, b"".join(chunks[b"IDAT"])
    if not (chunks.keys() >= {b"acTL", b"fcTL", b"fdAT"}) or len(chunks[b"fcTL"][0]) < 20:
        return default
    announced = chunks[b"acTL"][0]
    if len(announced) != 8 or not any(announced[:4]):
        return default
    frame = Canvas(*struct.unpack(">4I", chunks[b"fcTL"][0][4:20]))
    right, bottom = frame.left + frame.width, frame.top + frame.height
    if min(frame.width, frame.height) < 1 or right > canvas.width or bottom > canvas.height:
        return default
    return frame, b"".join(data[4:] for data in chunks[b"fdAT"])


def exif_of(chunks: dict[bytes, list[bytes]]) -> bytes:
    """Return the EXIF data, or those that are written as hexadecimal text."""
    if b"eXIf" in chunks:
        return chunks[b"eXIf"][0]
    for keyword in RAW_EXIF:
        for text in chunks.get(b"tEXt", []):
            if text.startswith(keyword):
                return from_hexadecimal(text[len(keyword) :])
        for text in chunks.get(b"zTXt", []):
            if text.startswith(keyword):
                return from_hexadecimal(inflated(text[len(keyword) + 1 :]))
    return b""


def from_hexadecimal(text: bytes) -> bytes:
    """Return the bytes of ImageMagick's form: a name, a length, and hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except ValueError:
        return b""


def xmp_of(chunks: dict[bytes, list[bytes]]) -> bytes:
    """Return the XMP packet. Its text may be compressed."""
    for text in chunks.get(b"iTXt", []):
        if text.startswith(XMP_KEYWORD):
            packed, _, rest = text[len(XMP_KEYWORD) :].partition(b"\0")
            packet = rest.split(b"\0", 2)[-1]  # behind the language and the translated keyword
            return inflated(packet) if packed else packet
    return b""


def profile_of(chunks: dict[bytes, list[bytes]], *, grey: bool) -> bytes:
    """Return the profile of the colours; empty if they are those of sRGB, or `coding_of` counts.

    The first of these chunks counts: cICP, iCCP if it can be read, sRGB, gAMA with or without cHRM.
    """
    if coding_of(chunks) is not None:
        return b""
    name, _, packed = chunks.get(b"iCCP", [b""])[0].partition(b"\0")
    if name and packed[:1] == b"\0" and (profile := inflated(packed[1:])):
        return profile
    gamma = int.from_bytes(chunks.get(b"gAMA", [b""])[0][:4], "big") / SCALE
    if gamma == 0 or len(chunks.get(b"sRGB", [b""])[0]) == 1:
        return b""
    return made_profile(1 / gamma, None if grey else points_of(chunks))


def points_of(chunks: dict[bytes, list[bytes]]) -> tuple[Point, ...]:
    """Return the chromaticities of white, red, green and blue."""
    data = chunks.get(b"cHRM", [b""])[0]
    if len(data) != POINTS.size:
        return SRGB_POINTS
    values = [value / SCALE for value in POINTS.unpack(data)]
    return tuple(zip(values[::2], values[1::2], strict=True))


def coding_of(chunks: dict[bytes, list[bytes]]) -> ColourCoding | None:
    """Return the numbers of the colours, if captiond knows what they mean."""
    data = chunks.get(b"cICP", [b""])[0]
    coding = ColourCoding(data[0], data[1]) if len(data) == 4 else None
    return coding if coding and coding.is_known else None


def inflated(data: bytes) -> bytes:
    """Return decompressed data; empty if they are damaged or too long."""
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data, MAX_TEXT)
    except zlib.error:
        return b""
    return b"" if unpacker.unconsumed_tail else unpacked

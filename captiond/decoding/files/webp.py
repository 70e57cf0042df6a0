"""WebP files (RFC 9649), of which the first frame is read."""

import struct

from captiond.decoding.files.directory import orientation_of
from captiond.decoding.files.plain import Canvas, PlainFile
from captiond.errors import CorruptImage, ImageTooSlow

MAX_CHUNKS = 10_000  # before the first frame
HAS_ALPHA = 0x10
# libwebp's decoder of animations has two canvases; Pillow copies the pixels twice.
PIXEL_BYTES = 17.0
LOSSY, LOSSLESS, ALPHA, FRAME = b"VP8 ", b"VP8L", b"ALPH", b"ANMF"
PIXELS = {LOSSY, LOSSLESS, ALPHA, FRAME}
Chunks = dict[bytes, bytes]


def plain_webp(content: bytes) -> PlainFile:
    """Return a WebP that has the first frame only.

    Raises:
        CorruptImage: it has no frame.
        ImageTooSlow: it has too many chunks.
    """
    chunks = read_chunks(content, 12)
    frame = chunks.get(FRAME)
    if frame is None:
        pictures, canvas = chunks, None
        width, height = frame_size(pictures)
    else:
        pictures = read_chunks(frame, 16)
        left, top, width, height = (number(frame[at : at + 3]) for at in (0, 3, 6, 9))
        width, height = width + 1, height + 1
        canvas = canvas_of(chunks.get(b"VP8X", b""), (2 * left, 2 * top, width, height))
    return PlainFile(
        content=still(pictures, width, height),
        width=width,
        height=height,
        pixel_bytes=PIXEL_BYTES,
        orientation=orientation_of(chunks.get(b"EXIF", b""), chunks.get(b"XMP ", b"")),
        profile=chunks.get(b"ICCP", b""),
        canvas=canvas,
    )


def read_chunks(content: bytes, at: int) -> Chunks:
    """Return the first chunk of each kind.

    Raises:
        CorruptImage: a chunk of the first frame is cut off.
        ImageTooSlow: there are too many chunks.
    """
    chunks: Chunks = {}
    for _ in range(MAX_CHUNKS):
        kind = content[at : at + 4]
        if len(kind) < 4:
            return chunks
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        data = content[at + 8 : at + 8 + length]
        if len(data) < length and kind in PIXELS - chunks.keys():
            raise CorruptImage("the image is truncated")
        chunks.setdefault(kind, data)
        at += 8 + length + length % 2
        if kind in {LOSSY, LOSSLESS} and b"VP8X" not in chunks:
            return chunks
    if FRAME in chunks:
        return chunks
    raise ImageTooSlow(f"the file has more than {MAX_CHUNKS} chunks")


def number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def frame_size(pictures: Chunks) -> tuple[int, int]:
    """Return width and height by the header of the compressed data."""
    if len(lossy := pictures.get(LOSSY, b"")) >= 10:
        return number(lossy[6:8]) & 0x3FFF, number(lossy[8:10]) & 0x3FFF
    if len(lossless := pictures.get(LOSSLESS, b"")) >= 5:
        bits = number(lossless[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise CorruptImage("the image has no frame")


def canvas_of(header: bytes, frame: tuple[int, int, int, int]) -> Canvas | None:
    """Return the canvas that the first frame is drawn on, or None if it fills the canvas."""
    left, top, width, height = frame
    right, bottom = left + width, top + height
    if len(header) >= 10:
        right = max(right, number(header[4:7]) + 1)
        bottom = max(bottom, number(header[7:10]) + 1)
    canvas = Canvas(right, bottom, left, top)
    return None if canvas == Canvas(width, height) else canvas


def still(pictures: Chunks, width: int, height: int) -> bytes:
    """Return a file with one frame."""
    if LOSSLESS in pictures:
        body = packed(LOSSLESS, pictures[LOSSLESS])
    elif ALPHA in pictures:
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        header = packed(b"VP8X", bytes((HAS_ALPHA, 0, 0, 0)) + size)
        body = header + packed(ALPHA, pictures[ALPHA]) + packed(LOSSY, pictures[LOSSY])
    else:
        body = packed(LOSSY, pictures.get(LOSSY, b""))
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def packed(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

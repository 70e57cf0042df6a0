"""JPEG 2000 files (ITU-T T.800): JP2 and JPX files, and bare codestreams."""

import struct
from dataclasses import dataclass

from captiond.decoding.files.boxes import boxes
from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage, ImageTypeRefused

CODESTREAM = b"\xff\x4f\xff\x51"
SIGNATURE = bytes.fromhex("0000000c6a5020200d0a870a")
KEPT = {b"ftyp", b"jp2h", b"jp2c"}  # boxes; the others are metadata
PROFILED = {2, 3}  # methods of a `colr` box that has an ICC profile
MAX_COMPONENTS = 4  # more than Pillow reads
COMPONENT_BYTES, PILLOW_BYTES = 8, 4  # whole numbers, before and after the wavelets
TILE_SECONDS = 3e-5
HEADER_BYTES = 64
DEPTH = 0x7F  # without the bit that says that samples have a sign


@dataclass(frozen=True, slots=True)
class StreamSize:
    """What the SIZ segment of a codestream says."""

    width: int
    height: int
    components: int
    tiles: int
    depth: int


def plain_jpeg2000(content: bytes) -> PlainFile:
    """Return a JPEG 2000 file without metadata.

    Raises:
        CorruptImage: it has no codestream with a size.
        ImageTooSlow: it has too many boxes.
        ImageTypeRefused: its colours have more than 8 bits.
    """
    plain, stream, profile = content, content, b""
    if not content.startswith(CODESTREAM):
        kept, stream = [SIGNATURE], b""
        for kind, begin, end in boxes(content, len(SIGNATURE), len(content)):
            body = content[begin:end]
            if kind in KEPT:
                kept.append(struct.pack(">I4s", 8 + len(body), kind) + body)
            if kind == b"jp2h":
                profile = profile_of(body)
            if kind == b"jp2c":
                stream = body[:HEADER_BYTES]
                break
        plain = b"".join(kept)
    size = stream_size(stream)
    if size.components > 1 and size.depth > 8:  # Pillow 13 turns the brightest values into black
        raise ImageTypeRefused(
            f"this is a JPEG 2000 image in colour with {size.depth} bits, of which captiond reads "
            "8 at most; convert it to PNG or TIFF"
        )
    return PlainFile(
        content=plain,
        width=size.width,
        height=size.height,
        pixel_bytes=COMPONENT_BYTES * size.components + PILLOW_BYTES,
        parts=f"{size.tiles} tiles",
        parts_seconds=size.tiles * TILE_SECONDS,
        profile=profile,
    )


def stream_size(stream: bytes) -> StreamSize:
    """Return the size of a codestream.

    Raises:
        CorruptImage: it has none.
    """
    if not stream.startswith(CODESTREAM) or len(stream) < 42:
        raise CorruptImage("the image has no codestream")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = (
        struct.unpack(">8IH", stream[8:42])
    )
    width, height = right - left, bottom - top
    if min(width, height, tile_width, tile_height, components) < 1:
        raise CorruptImage("the image has no size")
    across = -(-(right - tile_left) // tile_width)
    down = -(-(bottom - tile_top) // tile_height)
    depths = (1 + (depth & DEPTH) for depth in stream[42 : 42 + 3 * components : 3])
    return StreamSize(
        width, height, min(components, MAX_COMPONENTS), across * down, max(depths, default=0)
    )


def profile_of(header: bytes) -> bytes:
    """Return the ICC profile of a `jp2h` box, or nothing."""
    for kind, begin, end in boxes(header, 0, len(header)):
        if kind == b"colr" and header[begin : begin + 1] and header[begin] in PROFILED:
            return header[begin + 3 : end]
    return b""

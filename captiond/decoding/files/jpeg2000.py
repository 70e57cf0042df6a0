"""JPEG 2000 files (ITU-T T.800): JP2 and JPX files, and bare codestreams."""

import struct

from captiond.decoding.files.codestream import (
    START,
    StreamSize,
    check_components,
    readable,
    stream_size,
)
from captiond.decoding.files.iso_boxes import boxes
from captiond.decoding.files.plain import PlainFile

SIGNATURE = bytes.fromhex("0000000c6a5020200d0a870a")
HEADER, STREAM = b"jp2h", b"jp2c"
KEPT = {b"ftyp", HEADER}  # boxes; the others are metadata
PROFILED = {2, 3}  # methods of a `colr` box that has an ICC profile
COMPONENT_BYTES, PILLOW_BYTES = 8, 4  # whole numbers, before and after the wavelets
MAPPED_BYTES = 4  # the copy whose values are mapped
TILE_SECONDS = 3e-5
EIGHT_BITS, SIXTEEN_BITS = b"\x07", b"\x0f"
BITS = 18  # where the header box says the depth: in its first box, behind the number of components


def plain_jpeg2000(content: bytes) -> PlainFile:
    """Return a JPEG 2000 file without metadata.

    Raises:
        CorruptImage: it has no codestream with a size.
        ImageTooSlow: it has too many boxes.
        ImageTypeRefused: it has components that captiond does not read.
    """
    before, stream, header = parts_of(content)
    size = stream_size(stream)
    check_components(size)
    stream, levels = readable(stream, size)
    return PlainFile(
        content=stream if before is None else with_boxes(before, stream, size),
        width=size.width,
        height=size.height,
        pixel_bytes=COMPONENT_BYTES * len(size.components)
        + PILLOW_BYTES
        + MAPPED_BYTES * bool(levels),
        parts=f"{size.tiles} tiles",
        parts_seconds=size.tiles * TILE_SECONDS,
        profile=profile_of(header),
        levels=levels,
    )


def parts_of(content: bytes) -> tuple[list[tuple[bytes, bytes]] | None, bytes, bytes]:
    """Return the boxes that a file needs before its codestream, the codestream, and its header.

    The boxes are None for a bare codestream.
    """
    if content.startswith(START):
        return None, content, b""
    kept: list[tuple[bytes, bytes]] = []
    header = b""
    for kind, begin, end in boxes(content, len(SIGNATURE), len(content)):
        if kind == STREAM:
            return kept, content[begin:end], header
        if kind in KEPT:
            kept.append((kind, content[begin:end]))
        if kind == HEADER:
            header = content[begin:end]
    return kept, b"", header


def with_boxes(before: list[tuple[bytes, bytes]], stream: bytes, size: StreamSize) -> bytes:
    """Return a JP2 file. Pillow takes the depth of grey from the header, and 9 bits for 8."""
    parts = [SIGNATURE]
    for kind, body in (*before, (STREAM, stream)):
        if kind == HEADER and body[4:8] == b"ihdr" and len(size.components) == 1:
            said = SIXTEEN_BITS if size.is_deep_grey else EIGHT_BITS
            body = body[:BITS] + said + body[BITS + 1 :]
        parts.append(struct.pack(">I4s", 8 + len(body), kind) + body)
    return b"".join(parts)


def profile_of(header: bytes) -> bytes:
    """Return the ICC profile of a `jp2h` box, or nothing."""
    for kind, begin, end in boxes(header, 0, len(header)):
        if kind == b"colr" and header[begin : begin + 1] and header[begin] in PROFILED:
            return header[begin + 3 : end]
    return b""

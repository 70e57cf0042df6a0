"""BMP files (Windows bitmaps, header versions 1 to 5)."""

import struct

from captiond.decoding.files.plain import PlainFile
from captiond.errors import CorruptImage

RUN_LENGTHS = {1, 2}  # kinds of compression: runs of 8-bit and of 4-bit pixels
COMMAND_SECONDS = 3e-7  # they are read in Python; a command has at least two bytes
OLD_HEADER = 12


def plain_bmp(content: bytes) -> PlainFile:
    """Return a BMP without its resolution.

    Raises:
        CorruptImage: it has no header.
    """
    if len(content) < 34:
        raise CorruptImage("the image has no header")
    if int.from_bytes(content[14:18], "little") == OLD_HEADER:
        width, height, _, bits = struct.unpack("<4H", content[18:26])
        return PlainFile(content, width, height, memory_of(bits))
    width, height, _, bits, compression = struct.unpack("<iiHHI", content[18:34])
    width, height = abs(width), abs(height)
    runs = compression in RUN_LENGTHS
    commands = min(len(content) // 2, width * height + height)
    return PlainFile(
        content=content[:38] + bytes(8) + content[46:],
        width=width,
        height=height,
        pixel_bytes=memory_of(bits) + (3 if runs else 0),
        parts=f"{commands} runs of pixels",
        parts_seconds=commands * COMMAND_SECONDS if runs else 0.0,
        blank_alpha=True,
    )


def memory_of(bits: int) -> float:
    return 1.0 if bits <= 8 else 4.0

"""GIF files (GIF89a, CompuServe 1990), of which the first frame is read."""

import struct

from captiond.decoding.files.plain import Canvas, PlainFile
from captiond.errors import CorruptImage, ImageTooSlow

HEADER_BYTES = 13
MAX_BLOCKS = 100_000  # of at most 255 bytes each, before the first frame
EXTENSION, IMAGE, GRAPHIC_CONTROL = 0x21, 0x2C, 0xF9
HAS_TABLE = 0x80


def plain_gif(content: bytes) -> PlainFile:
    """Return a GIF that has the first frame only, on a canvas of the frame's size.

    Raises:
        CorruptImage: it has no frame.
        ImageTooSlow: it has too many blocks before the first frame.
    """
    if len(content) < HEADER_BYTES:
        raise CorruptImage("the image has no header")
    first = HEADER_BYTES + table_bytes(content[10])
    at, control = first_frame(content, first)
    left, top, width, height = struct.unpack("<4H", content[at + 1 : at + 9])
    screen_width, screen_height = struct.unpack("<2H", content[6:10])
    canvas = Canvas(max(screen_width, left + width), max(screen_height, top + height), left, top)
    whole = (left, top, width, height) == (0, 0, canvas.width, canvas.height)
    return PlainFile(
        content=b"".join(
            (
                content[:6],
                struct.pack("<2H", width, height),
                content[10:first],
                control,
                b",\0\0\0\0",
                content[at + 5 :],
            )
        ),
        width=width,
        height=height,
        pixel_bytes=1,
        canvas=None if whole else canvas,
    )


def table_bytes(flags: int) -> int:
    """Return the size of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & HAS_TABLE else 0


def first_frame(content: bytes, at: int) -> tuple[int, bytes]:
    """Return where the first frame begins, and the extension that says what is transparent."""
    control = b""
    for _ in range(MAX_BLOCKS):
        kind = content[at] if at < len(content) else 0
        if kind == IMAGE and at + 10 <= len(content):
            return at, control
        if kind != EXTENSION or at + 2 >= len(content):
            raise CorruptImage("the image has no frame")
        if content[at + 1] == GRAPHIC_CONTROL and content[at + 2] >= 4:
            control = b"!\xf9\4" + content[at + 3 : at + 7] + b"\0"
        at = after_blocks(content, at + 2)
    raise ImageTooSlow(f"the file has more than {MAX_BLOCKS} blocks before its first frame")


def after_blocks(content: bytes, at: int) -> int:
    """Return where a chain of data blocks ends."""
    for _ in range(MAX_BLOCKS):
        size = content[at] if at < len(content) else 0
        at += 1 + size
        if size == 0:
            return at
    raise ImageTooSlow(f"the file has more than {MAX_BLOCKS} blocks before its first frame")

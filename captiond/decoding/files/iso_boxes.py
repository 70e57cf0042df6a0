"""Boxes, of which ISO base media files consist (ISO/IEC 14496-12)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from captiond.errors import ImageTooSlow

MAX_BOXES = 10_000


class Box(NamedTuple):
    """The kind of a box, and where its content begins and ends."""

    kind: bytes
    begin: int
    end: int


def boxes(content: bytes | bytearray, at: int, end: int) -> Iterator[Box]:
    """Yield the boxes in a range.

    Raises:
        ImageTooSlow: there are too many.
    """
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        begin = at + 8
        if size == 1:
            size, begin = int.from_bytes(content[begin : begin + 8], "big"), begin + 8
        until = end if size == 0 else min(end, at + size)
        if until < begin:
            return
        yield Box(kind, begin, until)
        at = until
    raise ImageTooSlow(f"the file has more than {MAX_BOXES} boxes")


def find_box(content: bytes, kind: bytes, at: int, end: int) -> Box | None:
    """Return the first box of a kind in a range."""
    return next((box for box in boxes(content, at, end) if box.kind == kind), None)

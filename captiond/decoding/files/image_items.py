"""Which item of a HEIF or AVIF file is the picture, and which properties it has (ISO/IEC 23008-12).

A file may have further images: thumbnails, depth maps, and gain maps, which say how much brighter
an HDR screen shows each part. A gain map has a size and a coding of colours of its own. So has the
derived image (`tmap`) that joins it with the picture. A plain viewer shows the primary item.
"""

import struct
from collections.abc import Iterator

from captiond.decoding.files.iso_boxes import Box, boxes, find_box

MOST_ENTRIES = 100_000  # of the table that gives properties to items
FLAGS = 4  # bytes of the version and the flags, with which some boxes begin
LONG_INDEX = 1  # a flag of that table


def primary_properties(content: bytes, meta: Box) -> list[Box]:
    """Return the properties of the primary item; none if the file does not say which they are."""
    primary = find_box(content, b"pitm", meta.begin + FLAGS, meta.end)
    outer = find_box(content, b"iprp", meta.begin + FLAGS, meta.end)
    inner = find_box(content, b"ipco", outer.begin, outer.end) if outer else None
    if not (primary and outer and inner):
        return []
    properties = list(boxes(content, inner.begin, inner.end))
    item = number_of_item(content, primary)
    tables = (box for box in boxes(content, outer.begin, outer.end) if box.kind == b"ipma")
    owned = (number for table in tables for number in numbers_of(content, table, item))
    return [properties[number - 1] for number in owned if 1 <= number <= len(properties)]


def number_of_item(content: bytes, box: Box) -> int:
    """Return the number of the primary item."""
    at = box.begin + FLAGS
    version = content[box.begin : box.begin + 1]
    return int.from_bytes(content[at : min(at + (4 if version > b"\0" else 2), box.end)], "big")


def numbers_of(content: bytes, table: Box, item: int) -> Iterator[int]:
    """Yield the numbers of the properties of an item, which begin with 1."""
    head = content[table.begin : min(table.begin + 8, table.end)]
    if len(head) < 8:
        return
    entry = struct.Struct(">IB" if head[0] > 0 else ">HB")
    size, mask = (2, 0x7FFF) if head[3] & LONG_INDEX else (1, 0x7F)
    at = table.begin + len(head)
    for _ in range(min(int.from_bytes(head[4:], "big"), MOST_ENTRIES)):
        if at + entry.size > table.end:
            return
        owner, count = entry.unpack_from(content, at)
        first, at = at + entry.size, at + entry.size + size * count
        if owner == item and at <= table.end:
            for place in range(first, at, size):
                yield int.from_bytes(content[place : place + size], "big") & mask

"""A directory of a TIFF that is written anew at the end of the file."""

import struct
from collections.abc import Mapping

from captiond.decoding.files.directory import LONG, SIZES, Directory, Entry

LONG8 = 16


def with_directory(content: bytes, directory: Directory, entries: Mapping[int, Entry]) -> bytes:
    """Return the file with one more directory, which has these entries and comes first."""
    number, pointer, form = ("Q", "Q", "HHQ8s") if directory.big else ("H", "I", "HHI4s")
    order, at = directory.order, len(content) + len(content) % 2
    packed = b"".join(
        struct.pack(order + form, tag, entry.kind, entry.count, entry.field)
        for tag, entry in sorted(entries.items())
    )
    place = 8 if directory.big else 4
    return b"".join(
        (
            content[:place],
            struct.pack(order + pointer, at),
            content[place + struct.calcsize(pointer) :],
            b"\0" * (at - len(content)),
            struct.pack(order + number, len(entries)),
            packed,
            struct.pack(order + pointer, 0),
        )
    )


def number_entry(directory: Directory, value: int) -> Entry:
    """Return an entry with one number."""
    kind, code = (LONG8, "Q") if directory.big else (LONG, "I")
    return Entry(kind, 1, struct.pack(directory.order + code, value))


def part_of(directory: Directory, entry: Entry, first: int, count: int) -> Entry:
    """Return an entry that has some of the values of another one, which stay where they are."""
    size = SIZES[entry.kind]
    field_bytes = len(entry.field)
    if size * entry.count <= field_bytes:
        field = entry.field[size * first : size * (first + count)]
    elif size * count <= field_bytes:
        field = directory.bytes_at(directory.offset(entry) + size * first, size * count)
    else:
        code = "Q" if directory.big else "I"
        field = struct.pack(directory.order + code, directory.offset(entry) + size * first)
    return Entry(entry.kind, count, field.ljust(field_bytes, b"\0")[:field_bytes])

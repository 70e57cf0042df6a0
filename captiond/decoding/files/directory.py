"""The first directory of a TIFF file, which is also the form of EXIF data.

TIFF 6.0 (Adobe, 1992), BigTIFF (Aware Systems, 2007), EXIF 2.32 (CIPA DC-008).
"""

import re
import struct
from dataclasses import dataclass
from typing import Protocol

from captiond.decoding.files.plain import UPRIGHT

ORIENTATION = 0x112
MAX_ENTRIES = 65_535  # as many as a classic directory can have
EXIF_HEADER = b"Exif\0\0"
BYTE, ASCII, SHORT, LONG, RATIONAL = 1, 2, 3, 4, 5
# The size in bytes and the struct code of one value of each type that holds an integer.
INTEGERS = {BYTE: "B", SHORT: "H", LONG: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q"}
SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8}
SIZES |= {11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])")
MAX_XMP = 1 << 20  # bytes that are searched


class Sliceable(Protocol):
    """The content of a file: bytes, or what reads them when a part is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `field` has the value itself if it fits, or else its offset in the file."""

    kind: int
    count: int
    field: bytes


class Directory:
    """The entries of a directory of `data`, by tag. The first one of equal tags counts.

    It is the first directory, or the one that stands at the offset `at`.

    Entries that lie outside of the data are left out. `order` is the byte order as `struct` writes
    it; `big` says that this is a BigTIFF; `next` is the offset of the next directory, or 0.
    """

    def __init__(self, data: Sliceable, at: int | None = None) -> None:
        self._data = data
        self.order = ">" if data[:2] == b"MM" else "<"
        self.big = data[2:4] in {b"+\0", b"\0+"}
        self.entries: dict[int, Entry] = {}
        raw, self.next = self._raw_entries(
            self._pointer(8 if self.big else 4) if at is None else at
        )
        for tag, kind, count, field in raw:
            self.entries.setdefault(tag, Entry(kind, count, field))

    def _raw_entries(self, begin: int) -> tuple[list[tuple[int, int, int, bytes]], int]:
        """Return the entries of the directory at an offset, and the offset of the next one."""
        number, form = ("Q", "HHQ8s") if self.big else ("H", "HHI4s")
        count = min(self._number(number, begin), MAX_ENTRIES)
        entry = struct.Struct(self.order + form)
        first = begin + struct.calcsize(number)
        end = first + count * entry.size
        whole = self._data[first:end]
        raw = list(entry.iter_unpack(whole[: len(whole) // entry.size * entry.size]))
        return raw, self._pointer(end)

    def _pointer(self, at: int) -> int:
        return self._number("Q" if self.big else "I", at)

    def _number(self, code: str, at: int) -> int:
        """Return the number at an offset, or 0 if the data end before it."""
        size = struct.calcsize(code)
        raw = self._data[at : at + size]
        return int(struct.unpack(self.order + code, raw)[0]) if len(raw) == size else 0

    def value(self, tag: int, most: int) -> bytes:
        """Return the value of a tag, at most `most` bytes of it; empty without the tag."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in SIZES:
            return b""
        size = SIZES[entry.kind] * entry.count
        if size <= len(entry.field):
            return entry.field[: min(size, most)]
        return self.bytes_at(self.offset(entry), min(size, most))

    def bytes_at(self, at: int, count: int) -> bytes:
        return self._data[at : at + count]

    def offset(self, entry: Entry) -> int:
        """Return where the value of an entry stands that does not fit into its field."""
        code = "Q" if len(entry.field) == 8 else "I"
        return int(struct.unpack(self.order + code, entry.field)[0])

    def numbers(self, tag: int, most: int = 16) -> tuple[int, ...]:
        """Return the integers of a tag, at most `most` of them; none if it has no integers."""
        entry = self.entries.get(tag)
        code = INTEGERS.get(entry.kind) if entry else None
        if code is None:
            return ()
        size = struct.calcsize(code)
        raw = self.value(tag, most * size)
        count = len(raw) // size
        return struct.unpack(f"{self.order}{count}{code}", raw[: count * size])

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first integer of a tag."""
        return next(iter(self.numbers(tag, 1)), default)

    @property
    def orientation(self) -> int:
        """Return the EXIF orientation, 1 to 8, or 0 if there is none.

        One of an unexpected type is read if it can be.
        """
        value = self._orientation()
        return value if UPRIGHT <= value <= 8 else 0

    def _orientation(self) -> int:
        entry = self.entries.get(ORIENTATION)
        if entry is not None and entry.kind == ASCII:
            text = self.value(ORIENTATION, 2).rstrip(b"\0 ")
            return int(text) if text.isdigit() else 0
        if entry is not None and entry.kind == RATIONAL:
            raw = self.value(ORIENTATION, 8)
            over, under = struct.unpack(self.order + "II", raw) if len(raw) == 8 else (0, 1)
            return over // under if under else 0
        return self.number(ORIENTATION)


def exif_orientation(data: bytes) -> int:
    """Return the orientation that EXIF data give, whatever else is wrong with them; 0 if none."""
    while data.startswith(EXIF_HEADER):
        data = data[len(EXIF_HEADER) :]
    if data[:2] not in {b"II", b"MM"}:
        return 0
    return Directory(data).orientation


def xmp_orientation(packet: bytes) -> int:
    """Return the orientation that an XMP packet gives."""
    found = XMP_ORIENTATION.search(packet[:MAX_XMP])
    return int(found[1]) if found else UPRIGHT


def orientation_of(exif: bytes, xmp: bytes) -> int:
    """Return the orientation by EXIF data, or by an XMP packet if these have none.

    EXIF data that say that the image is upright count as well: a program that has turned the pixels
    corrects them, and may leave the packet as it was.
    """
    return exif_orientation(exif) or xmp_orientation(xmp)

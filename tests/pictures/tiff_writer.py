"""A writer of TIFF files of every depth, meaning of samples and layout (TIFF 6.0, TN3)."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SHORT, LONG, UNDEFINED = 3, 4, 7
STRUCT = {SHORT: "H", LONG: "I"}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
DEFLATE, ROWS, TILE = 8, 32, 64
Samples = npt.NDArray[Any]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """How samples are stored. `extra` are the kinds of samples behind those of the colour."""

    photometric: int
    bits: int = 8
    format: int = UNSIGNED
    order: str = "<"
    deflated: bool = False
    predictor: int = 1
    planar: bool = False
    tiled: bool = False
    reversed_bits: bool = False
    extra: tuple[int, ...] = ()
    orientation: int = 1
    profile: bytes = b""
    tags: tuple[tuple[int, int, tuple[int, ...]], ...] = ()


def scaled(values: Values, layout: Layout) -> Samples:
    """Return values of 0…1 as samples of the whole range of the layout's type."""
    if layout.format == FLOAT:
        return values.astype(f"f{layout.bits // 8}")
    most = (1 << layout.bits) - 1
    whole = np.rint(values * most).astype(np.int64)
    return whole - (1 << (layout.bits - 1)) if layout.format == SIGNED else whole


def tiff(samples: Samples, layout: Layout) -> bytes:
    """Return a TIFF of samples [height, width, number]."""
    planes = np.moveaxis(samples, -1, 0)[..., None] if layout.planar else samples[None]
    parts = [packed(part, layout) for plane in planes for part in parts_of(plane, layout)]
    height, width, number = samples.shape
    tags: list[tuple[int, int, tuple[int, ...]]] = [
        (256, LONG, (width,)),
        (257, LONG, (height,)),
        (258, SHORT, (layout.bits,) * number),
        (259, SHORT, (DEFLATE if layout.deflated else 1,)),
        (262, SHORT, (layout.photometric,)),
        (274, SHORT, (layout.orientation,)),
        (277, SHORT, (number,)),
        (284, SHORT, (2 if layout.planar else 1,)),
        (339, SHORT, (layout.format,) * number),
        *layout.tags,
    ]
    if layout.predictor > 1:
        tags.append((317, SHORT, (layout.predictor,)))
    if layout.reversed_bits:
        tags.append((266, SHORT, (2,)))
    if layout.extra:
        tags.append((338, SHORT, layout.extra))
    if layout.tiled:
        tags += [(322, LONG, (TILE,)), (323, LONG, (TILE,))]
    else:
        tags.append((278, LONG, (ROWS,)))
    return assembled(tags, parts, layout)


def parts_of(plane: Samples, layout: Layout) -> list[Samples]:
    """Return the strips of a plane, or its tiles, which are padded."""
    height, width = plane.shape[:2]
    if not layout.tiled:
        return [plane[top : top + ROWS] for top in range(0, height, ROWS)]
    padded = np.pad(plane, ((0, -height % TILE), (0, -width % TILE), (0, 0)))
    return [
        padded[top : top + TILE, left : left + TILE]
        for top in range(0, height, TILE)
        for left in range(0, width, TILE)
    ]


def packed(part: Samples, layout: Layout) -> bytes:
    """Return a strip or a tile as bytes."""
    if layout.predictor == 2:
        part = part.copy()
        part[:, 1:] -= part[:, :-1].copy()
    if layout.predictor == 3:
        raw = shuffled(part)
    elif layout.bits in {8, 16, 32, 64}:
        kind = "f" if layout.format == FLOAT else "u"
        whole = part if kind == "f" else part.astype(np.uint64) & np.uint64((1 << layout.bits) - 1)
        raw = whole.astype(f"{layout.order}{kind}{layout.bits // 8}").tobytes()
    else:
        raw = as_bits(part, layout.bits)
    if layout.reversed_bits:
        raw = np.packbits(np.unpackbits(np.frombuffer(raw, np.uint8)), bitorder="little").tobytes()
    return zlib.compress(raw) if layout.deflated else raw


def as_bits(part: Samples, bits: int) -> bytes:
    """Return samples as rows of bits, each of which begins with a byte."""
    places = np.arange(bits - 1, -1, -1)
    rows = (part.astype(np.int64)[..., None] >> places & 1).reshape(len(part), -1)
    return np.packbits(rows.astype(np.uint8), axis=1).tobytes()


def shuffled(part: Samples) -> bytes:
    """Return floats with the predictor 3: their bytes by significance, and differences of these."""
    rows, number = len(part), part.shape[-1]
    size = part.dtype.itemsize
    raw = part.astype(part.dtype.newbyteorder(">")).reshape(rows, -1).view(np.uint8)
    planes = raw.reshape(rows, -1, size).transpose(0, 2, 1).reshape(rows, -1)
    planes = planes.copy()
    planes[:, number:] -= planes[:, :-number].copy()
    return planes.tobytes()


def assembled(
    tags: list[tuple[int, int, tuple[int, ...]]], parts: list[bytes], layout: Layout
) -> bytes:
    """Return the file of these tags and parts."""
    body, offsets = b"", []
    for part in parts:
        offsets.append(8 + len(body))
        body += part + bytes(len(part) % 2)
    offset_tag, count_tag = (324, 325) if layout.tiled else (273, 279)
    tags = [
        *tags,
        (offset_tag, LONG, tuple(offsets)),
        (count_tag, LONG, tuple(len(part) for part in parts)),
    ]
    if layout.profile:
        tags.append((34675, UNDEFINED, tuple(layout.profile)))
    begin, order = 8 + len(body), layout.order
    outside = begin + 2 + 12 * len(tags) + 4
    entries, values = struct.pack(order + "H", len(tags)), b""
    for tag, kind, numbers in sorted(tags):
        raw = struct.pack(f"{order}{len(numbers)}{STRUCT.get(kind, 'B')}", *numbers)
        field = raw.ljust(4, b"\0")
        if len(raw) > 4:
            field = struct.pack(order + "I", outside + len(values))
            values += raw + bytes(len(raw) % 2)
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + field
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", begin) + body + entries + bytes(4) + values

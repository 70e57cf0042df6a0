"""Samples from the bytes of rows: of any number of bits, and with the predictors of TIFF."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from captiond.decoding.files.sample_layout import SampleFormat, SampleLayout

HORIZONTAL, FLOATING_POINT = 2, 3  # predictors
CHUNK_BYTES = 1 << 20  # of rows that are changed at a time
Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.unsignedinteger[Any]]
Samples = npt.NDArray[np.unsignedinteger[Any] | np.floating[Any]]


def samples_of(rows: Bytes, layout: SampleLayout) -> Samples:
    """Return the samples [height, samples in a row] of rows of bytes, in the machine's order."""
    if layout.predictor == FLOATING_POINT:
        return from_byte_planes(rows, layout)
    samples = as_integers(rows, layout)
    if layout.predictor == HORIZONTAL:
        for part in tiles_of(samples, layout):
            part[...] = np.cumsum(part, axis=1, dtype=part.dtype)
    return samples.view(kind_of(layout))


def kind_of(layout: SampleLayout) -> str:
    """Return numpy's name of the type of samples. Those with a sign are still without it."""
    return f"{'f' if layout.format is SampleFormat.FLOAT else 'u'}{layout.array_bytes}"


def as_integers(rows: Bytes, layout: SampleLayout) -> Integers:
    if layout.bits != 8 * layout.array_bytes:
        return unpacked(rows, layout)
    samples: Integers = rows.view(f"u{layout.array_bytes}")
    if layout.order == ">":
        samples.byteswap(inplace=True)
    return samples


def unpacked(rows: Bytes, layout: SampleLayout) -> Integers:
    """Return samples that do not fill whole bytes. Each row begins with a byte."""
    samples = np.empty((len(rows), layout.stored_width), f"u{layout.array_bytes}")
    bits = layout.bits
    period = next(number for number in (1, 2, 4, 8) if number * bits % 8 == 0)
    step = max(1, CHUNK_BYTES // 8 // max(1, rows.shape[1]))
    for top in range(0, len(rows), step):
        wide = np.pad(rows[top : top + step], ((0, 0), (0, 8 + period * bits // 8)))
        for number in range(period):
            part = samples[top : top + step, number::period]
            part[...] = at_bit(wide, number * bits, bits, period * bits // 8, part.shape[1])
    return samples


def at_bit(rows: Bytes, bit: int, bits: int, stride: int, count: int) -> Integers:
    """Return the numbers that begin with a bit of each `stride` bytes."""
    first, shift = divmod(bit, 8)
    size = -(-(shift + bits) // 8)
    value = np.zeros((len(rows), count), np.uint64)
    for byte in range(first, first + size):
        value = value << np.uint64(8) | rows[:, byte::stride][:, :count]
    return value >> np.uint64(8 * size - shift - bits) & np.uint64((1 << bits) - 1)


def tiles_of(samples: Integers, layout: SampleLayout) -> Iterator[Integers]:
    """Yield views of the rows of tiles, [rows, pixels, samples]."""
    number = 1 if layout.planes else layout.number
    across = layout.tile_width or layout.width
    step = max(1, CHUNK_BYTES // max(1, samples[0].nbytes))
    for top in range(0, len(samples), step):
        for left in range(0, layout.width, across):
            right = min(left + across, layout.width)
            part = samples[top : top + step, left * number : right * number]
            yield part.reshape(len(part), right - left, number)


def from_byte_planes(rows: Bytes, layout: SampleLayout) -> Samples:
    """Undo the predictor for floating-point numbers (Adobe Photoshop TIFF Technical Note 3).

    The bytes of a row are in the order of their significance, as differences.
    """
    size = layout.array_bytes
    number = 1 if layout.planes else layout.number
    across = (layout.tile_width or layout.width) * number
    samples = np.empty((len(rows), layout.stored_width), kind_of(layout))
    step = max(1, CHUNK_BYTES // max(1, rows.shape[1]))
    for top in range(0, len(rows), step):
        for left in range(0, layout.stored_width, across):
            coded = rows[top : top + step, size * left : size * (left + across)]
            whole = coded.reshape(len(coded), -1, number)
            planes = np.cumsum(whole, axis=1, dtype=np.uint8).reshape(len(coded), size, -1)
            ordered = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}")[..., 0]
            samples[top : top + step, left : left + across] = ordered
    return samples

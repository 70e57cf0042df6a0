"""Which of the values that an image has are black and white. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from captiond.decoding.files.sample_layout import SampleFormat, SampleLayout

EIGHT_BITS = 255.0
LOW_DEPTHS = (1023, 4095)  # greatest values of 10 and 12 bits, which may be stored in 16
SHALLOW = (1, 255, 65_535, (1 << 24) - 1)  # greatest values that may be stored in 32 bits
# Of floating-point numbers, so many may be greater than white or less than black: lights that are
# brighter than white, and what a filter has left at edges.
OUTSIDE = 0.05
MIDDLE = -0.5  # values from -1 to 1 have some that are less than this
Floats = npt.NDArray[np.float32]
Scale = tuple[np.float32, np.float32]


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The smallest and the greatest finite value of a part, and how many there are: in all, above
    1, and below 0.
    """

    low: float
    top: float
    count: int
    above_one: int
    below_zero: int


def range_of(values: Floats) -> ValueRange:
    """Return the range of values, which contains 0."""
    finite = values[np.isfinite(values)]
    return ValueRange(
        low=float(finite.min(initial=0.0)),
        top=float(finite.max(initial=0.0)),
        count=finite.size,
        above_one=int(np.count_nonzero(finite > 1)),
        below_zero=int(np.count_nonzero(finite < 0)),
    )


def scale_of(ranges: list[ValueRange], layout: SampleLayout) -> Scale:
    """Return the value that becomes black, and the factor that scales values to 0…255.

    Values with a sign are stretched.
    """
    low, top = min(part.low for part in ranges), max(part.top for part in ranges)
    count = max(1, sum(part.count for part in ranges))
    floating = layout.format is SampleFormat.FLOAT
    if floating and sum(part.below_zero for part in ranges) <= OUTSIDE * count:
        low = 0.0
    if low < 0:
        if floating and -1 <= low < MIDDLE and top <= 1:
            low, top = -1.0, 1.0
        return np.float32(low), np.float32(EIGHT_BITS / (top - low))
    if floating:
        white = white_of_floats(top, sum(part.above_one for part in ranges) / count)
    else:
        white = white_of_integers(top, layout)
    return np.float32(0), np.float32(EIGHT_BITS / white)


def white_of_floats(top: float, above_one: float) -> float:
    """Return the white of floating-point numbers: 1, or the greatest value of the least depth."""
    if above_one <= OUTSIDE:
        return 1.0
    return next((white for white in (EIGHT_BITS, 65_535.0) if top <= white), top)


def white_of_integers(top: float, layout: SampleLayout) -> float:
    """Return the white of integers: as the file says it, or by the depth.

    Values of 10 or 12 bits may be stored as if they had 16, and those of up to 24 as if they
    had 32. An image that has only such small values would be nearly black.
    """
    if 0 < top <= layout.most:
        return layout.most
    signed = layout.format is SampleFormat.SIGNED
    full = (1 << (layout.bits - signed)) - 1
    smaller = {16: LOW_DEPTHS, 32: SHALLOW}.get(layout.bits, ())
    return next((white for white in smaller if 0 < top <= white), full)

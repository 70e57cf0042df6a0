"""How Pillow resizes pixels of 8 bits, in numbers, so that a GPU computes the same ones.

Pillow (libImaging/Resample.c) goes through the rows and through the columns. In each of the two
passes, a new pixel is the sum of old pixels that lie next to each other. Their weights are integers
with 22 bits behind the point, so the result does not depend on where or in which order they are
added.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from captiond.decoding.geometry import Geometry, Pixels

PRECISION_BITS = 22
SUPPORT = {Image.Resampling.BILINEAR: 1.0, Image.Resampling.BICUBIC: 2.0}  # half a filter's width
REMEMBERED = 1024  # pairs of sides whose weights are kept: up to 50 MB
Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class PixelWeights:
    """The weights of one pass: for each new pixel, the first old one and the weights from it on.

    `firsts` is int32 [new], and `factors` int32 [new, taps], where what is not needed is 0.
    """

    firsts: Integers
    factors: Integers

    @property
    def taps(self) -> int:
        return int(self.factors.shape[1])


@lru_cache(REMEMBERED)
def weights(old: int, new: int, resample: int) -> PixelWeights:
    """Return the weights for a side of `old` pixels that is to have `new`.

    Raises:
        KeyError: the filter is neither the bilinear nor the bicubic one.
    """
    scale = old / new
    widening = max(scale, 1.0)
    support = SUPPORT[Image.Resampling(resample)] * widening
    centers = (np.arange(new) + 0.5) * scale
    firsts = np.maximum((centers - support + 0.5).astype(np.int32), 0)
    ends = np.minimum((centers + support + 0.5).astype(np.int32), old)
    taps = np.arange(math.ceil(support) * 2 + 1)
    distances = (taps + firsts[:, None] - centers[:, None] + 0.5) * (1.0 / widening)
    inside = taps < (ends - firsts)[:, None]
    curve = bicubic if resample == Image.Resampling.BICUBIC else bilinear
    shares = np.where(inside, curve(np.abs(distances)), 0.0)
    shares /= np.cumsum(shares, 1)[:, -1:]  # added up one after the other, as Pillow does
    points = shares * (1 << PRECISION_BITS)
    return PixelWeights(firsts, np.where(points < 0, points - 0.5, points + 0.5).astype(np.int32))


def bilinear(distance: Numbers) -> Numbers:
    return np.where(distance < 1.0, 1.0 - distance, 0.0)


def bicubic(distance: Numbers) -> Numbers:
    """Return the values of the bicubic filter, in Pillow's order of operations."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


def columns_first(width: int, height: int, geometry: Geometry) -> bool:
    """Return whether Pillow goes through the columns first: if they lose many more pixels."""
    lost = height - geometry.height
    return lost > 0 and lost > 2 * (width - geometry.width)


def resized(pixels: Pixels, geometry: Geometry) -> Pixels:
    """Return what Pillow makes of pixels [height, width, 3]; for tests and checks, it is slow."""
    height, width, _ = pixels.shape
    passes = [(1, width, geometry.width), (0, height, geometry.height)]
    if columns_first(width, height, geometry):
        passes.reverse()
    for axis, old, new in passes:
        pixels = added_up(pixels, axis, weights(old, new, geometry.resample))
    return pixels


def added_up(pixels: Pixels, axis: int, of_pass: PixelWeights) -> Pixels:
    old = np.moveaxis(pixels, axis, 0).astype(np.int32)
    total = np.full((len(of_pass.firsts), *old.shape[1:]), 1 << (PRECISION_BITS - 1), np.int32)
    for tap in range(of_pass.taps):
        places = np.minimum(of_pass.firsts + tap, len(old) - 1)
        total += old[places] * of_pass.factors[:, tap, None, None]
    new = np.clip(total >> PRECISION_BITS, 0, 255).astype(np.uint8)
    return np.moveaxis(new, 0, axis)

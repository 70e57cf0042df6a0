"""The ten colours of the scenes with their shades, and the colours of backgrounds."""

import colorsys
import math
from dataclasses import dataclass
from random import Random

RGB = tuple[int, int, int]

CONTRAST = 0.32  # the minimum distance of two touching colours, in the unit RGB cube
_TRIES = 200


@dataclass(frozen=True)
class Shades:
    """The range of one colour. `hue` is in degrees and may exceed 360; the others are in 0..1."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]

    def pick(self, rng: Random) -> RGB:
        """Return a random shade of the range, as 8-bit RGB."""
        hue = rng.uniform(*self.hue) % 360 / 360
        unit = colorsys.hsv_to_rgb(hue, rng.uniform(*self.saturation), rng.uniform(*self.value))
        red, green, blue = (round(255 * channel) for channel in unit)
        return red, green, blue


COLOURS = {
    "red": Shades((352, 364), (0.85, 1.0), (0.75, 0.95)),
    "orange": Shades((25, 33), (0.9, 1.0), (0.94, 1.0)),
    "yellow": Shades((51, 58), (0.8, 1.0), (0.93, 1.0)),
    "green": Shades((105, 140), (0.65, 1.0), (0.45, 0.8)),
    "blue": Shades((208, 232), (0.75, 1.0), (0.65, 1.0)),
    "purple": Shades((272, 288), (0.65, 0.95), (0.45, 0.72)),
    "pink": Shades((325, 343), (0.35, 0.52), (0.95, 1.0)),
    "brown": Shades((20, 28), (0.62, 0.8), (0.36, 0.5)),
    "black": Shades((0, 360), (0.0, 0.3), (0.0, 0.12)),
    "white": Shades((0, 360), (0.0, 0.03), (0.96, 1.0)),
}

_BACKGROUND = Shades((0, 360), (0.0, 0.2), (0.3, 0.9))


def distance(one: RGB, other: RGB) -> float:
    """Return the Euclidean distance of two colours in the unit RGB cube, from 0 to 1.73."""
    return math.dist(one, other) / 255


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """Return a mixture of two colours, with `share` (0..1) of `other`."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return red, green, blue


def pick_background(rng: Random, against: list[RGB]) -> RGB:
    """Return a dull colour with enough contrast to every colour in `against`.

    Raises:
        ValueError: No such colour was drawn in 200 tries.
    """
    for _ in range(_TRIES):
        background = _BACKGROUND.pick(rng)
        if all(distance(background, colour) >= CONTRAST for colour in against):
            return background
    raise ValueError(f"no background stands out from {against}")

"""How the samples of an image are stored and what they mean, where Pillow has no mode for them."""

from dataclasses import dataclass
from enum import IntEnum


class SampleFormat(IntEnum):
    """The kind of a number, as the tag SampleFormat of TIFF has it."""

    UNSIGNED = 1
    SIGNED = 2
    FLOAT = 3


class Photometric(IntEnum):
    """What the samples of a colour are, as PhotometricInterpretation of TIFF has it."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    CMYK = 5
    LAB = 8
    ICC_LAB = 9


COLOURS = {Photometric.RGB: 3, Photometric.CMYK: 4, Photometric.LAB: 3, Photometric.ICC_LAB: 3}


@dataclass(frozen=True, slots=True)
class SampleLayout:
    """The samples of an image.

    Each pixel has `number` samples of `bits` bits. The first ones are its colour. One more is its
    opacity, if `alpha` is true; the colours are `premultiplied` by it, or not. `order` is the byte
    order, as `struct` writes it. `predictor` is that of TIFF, and restarts after `tile_width`
    pixels. `planes` says that each sample has an image of its own in the file. `most` is the value
    of white, or 0 if the depth decides. Grey pixels of the value `clear` are transparent.
    """

    width: int
    height: int
    number: int
    bits: int
    format: SampleFormat = SampleFormat.UNSIGNED
    photometric: Photometric = Photometric.BLACK_IS_ZERO
    order: str = "<"
    predictor: int = 1
    tile_width: int = 0
    planes: bool = False
    alpha: bool = False
    premultiplied: bool = False
    most: int = 0
    clear: int | None = None

    @property
    def colours(self) -> int:
        """Return how many samples the colour has."""
        return COLOURS.get(self.photometric, 1)

    @property
    def stored_width(self) -> int:
        """Return the samples in a row of the file, or in a row of one plane."""
        return self.width * (1 if self.planes else self.number)

    @property
    def row_bytes(self) -> int:
        """Return the length of a row in the file, or in one plane."""
        return -(-self.stored_width * self.bits // 8)

    @property
    def array_bytes(self) -> int:
        """Return the memory of one sample."""
        return next(size for size in (1, 2, 4, 8) if self.bits <= 8 * size)

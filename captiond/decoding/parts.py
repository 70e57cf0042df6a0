"""The reduction of an image to a model's input, part by part.

An image may need a conversion, and be stored turned. To do that with the whole image takes up to
three further copies of it. Pillow resizes rows first and columns then, with 8 bits in between. So
here each strip of upright rows is converted, turned and resized on its own, and the columns follow
when all rows have the final width. For an image that is a single strip, the result is that of
Pillow for the whole image, to the bit. So it is for a larger one, unless Pillow resizes columns
first, as it does if the height is reduced much more than the width. Then rounding makes a small
difference.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from captiond.decoding.files.plain import UPRIGHT, Canvas
from captiond.decoding.geometry import Geometry
from captiond.decoding.resampling import columns_first

PART_PIXELS = 1 << 18  # of a strip: some of its copies fit into the caches of a core
LONGEST_SIDE = 65_535  # Pillow's table of weights takes 32 bytes for each pixel of a side
BACKGROUND = (255, 255, 255)
Box = tuple[int, int, int, int]
Convert = Callable[[Image.Image], Image.Image]

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = {5, 6, 7, 8}  # they exchange width and height
FROM_THE_END = {3, 4, 7, 8}  # the first upright row is the last stored row or column


class PixelSource(Protocol):
    """An image as it is stored: one of Pillow, or one that makes images of its parts."""

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...

    def crop(self, box: Box, /) -> Image.Image: ...


@dataclass(frozen=True)
class Picture:
    """An image as it is stored, and how it is to be seen.

    `convert` converts a part of it to `mode`. `area` is the canvas that it is on, which is white.
    """

    image: PixelSource
    area: Canvas
    orientation: int
    mode: str
    convert: Convert

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height of the upright image."""
        return upright_size((self.area.width, self.area.height), self.orientation)

    def is_plain(self) -> bool:
        """Return whether the whole image can be resized as it is stored."""
        whole = self.image.size == (self.area.width, self.area.height)
        short = max(self.image.size) <= LONGEST_SIDE
        return whole and short and self.orientation == UPRIGHT

    def region(self, box: Box) -> Image.Image:
        """Return a part of the canvas as it is stored, converted."""
        left, top = self.area.left, self.area.top
        inner = (
            max(box[0] - left, 0),
            max(box[1] - top, 0),
            min(box[2] - left, self.image.width),
            min(box[3] - top, self.image.height),
        )
        if inner == box:
            return self.convert(self.image.crop(box))
        region = Image.new(self.mode, (box[2] - box[0], box[3] - box[1]), BACKGROUND)
        if inner[0] < inner[2] and inner[1] < inner[3]:
            place = (inner[0] + left - box[0], inner[1] + top - box[1])
            region.paste(self.convert(self.image.crop(inner)), place)
        return region

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Return rows `top` to `bottom` of the upright image, converted."""
        width, height = self.area.width, self.area.height
        quarter = self.orientation in QUARTER_TURNS
        if self.orientation in FROM_THE_END:
            end = width if quarter else height
            top, bottom = end - bottom, end - top
        box = (top, 0, bottom, height) if quarter else (0, top, width, bottom)
        region = self.region(box)
        turn = TURNS.get(self.orientation)
        return region if turn is None else region.transpose(turn)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the width and height of a stored image when it is upright."""
    return (size[1], size[0]) if orientation in QUARTER_TURNS else size


def resized(picture: Picture, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Return the upright picture with the given width and height, in the picture's mode."""
    if max(picture.size) > LONGEST_SIDE:
        picture = shortened(picture)
    width, height = picture.size
    if width * height <= PART_PIXELS:
        return picture.rows(0, height).resize(size, resample)
    lines = Image.new(picture.mode, (size[0], height))
    step = max(1, PART_PIXELS // width)
    for top in range(0, height, step):
        rows = picture.rows(top, min(top + step, height))
        lines.paste(rows.resize((size[0], rows.height), resample), (0, top))
    return lines.resize(size, resample)


def rows_come_first(size: tuple[int, int], geometry: Geometry) -> bool:
    """Return whether `resized` goes through an image of this size in Pillow's order."""
    width, height = size
    return width * height <= PART_PIXELS or not columns_first(width, height, geometry)


def shortened(picture: Picture) -> Picture:
    """Return a picture whose sides have at most `LONGEST_SIDE` pixels, by averages of pixels.

    Only PNG, TIFF and BMP files can have longer sides. The result is nearly the same.
    """
    area = picture.area
    across, down = (-(-side // LONGEST_SIDE) for side in (area.width, area.height))
    small = Image.new(picture.mode, (-(-area.width // across), -(-area.height // down)))
    for box in boxes_of(area.width, area.height, across, down):
        small.paste(picture.region(box).reduce((across, down)), (box[0] // across, box[1] // down))
    whole = Canvas(*small.size)
    return Picture(small, whole, picture.orientation, picture.mode, lambda part: part)


def boxes_of(width: int, height: int, across: int = 1, down: int = 1) -> Iterator[Box]:
    """Yield boxes that cover an area, whose corners are multiples of `across` and `down`."""
    wide = max(1, min(width, PART_PIXELS) // across) * across
    high = max(1, PART_PIXELS // wide // down) * down
    for top in range(0, height, high):
        for left in range(0, width, wide):
            yield left, top, min(left + wide, width), min(top + high, height)

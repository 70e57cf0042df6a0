"""TIFF files whose strips or tiles are WebP images. Pillow's libtiff cannot decompress them."""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from PIL import Image

from captiond.decoding.files.directory import Directory
from captiond.decoding.files.sample_layout import SampleLayout
from captiond.errors import CorruptImage

STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS = 273, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
MODES = {3: "RGB", 4: "RGBA"}
# The rows, their file, Pillow's pixels of it, and a part in libwebp, which may be the whole image.
ROW_COPIES, PART_BYTES = 4, 17


def memory_of_parts(number: int) -> float:
    """Return the bytes for each pixel of so many samples."""
    return ROW_COPIES * number + PART_BYTES


def rows_of_parts(content: bytes, directory: Directory, layout: SampleLayout) -> Iterator[bytes]:
    """Yield one grey image (PGM) whose pixels are the bytes of the rows.

    Raises:
        CorruptImage: a part is larger than the file says.
    """
    width, height = layout.width, layout.height
    rows = np.zeros((height, width, layout.number), np.uint8)
    wide = directory.number(TILE_WIDTH) or width
    high = directory.number(TILE_HEIGHT) or directory.number(ROWS_PER_STRIP) or height
    across = -(-width // wide)
    for number, part in enumerate(parts_of(content, directory, across * -(-height // high))):
        left, top = number % across * wide, number // across * high
        place = rows[top : top + high, left : left + wide]
        with Image.open(BytesIO(part), formats=("WEBP",)) as image:
            if image.width > wide or image.height > high:
                raise CorruptImage("a part of the image is larger than the file says")
            pixels = np.asarray(image.convert(MODES[layout.number]))
        inside = place[: len(pixels), : pixels.shape[1]]
        inside[...] = pixels[: inside.shape[0], : inside.shape[1]]
    yield b"P5 %d %d 255\n" % (layout.row_bytes, height) + rows.tobytes()


def parts_of(content: bytes, directory: Directory, count: int) -> Iterator[bytes]:
    """Yield the strips or tiles.

    Raises:
        CorruptImage: there are not so many.
    """
    tiled = TILE_OFFSETS in directory.entries
    offsets = directory.numbers(TILE_OFFSETS if tiled else STRIP_OFFSETS, count)
    sizes = directory.numbers(TILE_COUNTS if tiled else STRIP_COUNTS, count)
    if min(len(offsets), len(sizes)) < count:
        raise CorruptImage("the image is truncated: it has too few strips or tiles")
    for at, size in zip(offsets, sizes, strict=True):
        yield content[at : at + size]

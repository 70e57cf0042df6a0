"""PNG files whose compressed pixels end too early, although all of their chunks are whole."""

import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import CorruptImage
from captiond.settings.config import ImageSettings
from tests.imagefiles import chunk

GEOMETRY = Geometry(16, 16, Image.Resampling.BILINEAR)
SETTINGS = ImageSettings()
set_up_pillow(SETTINGS)
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
KINDS = [(GREY, 1), (GREY, 16), (RGB, 8), (RGB, 16), (PALETTE, 4), (GREY_ALPHA, 8), (RGBA, 8)]


def rows_of(size: tuple[int, int], bits: int, *, interlaced: bool) -> list[bytes]:
    """The rows of a black image with their filters, in the order of the file."""
    width, height = size
    if not interlaced:
        return [bytes(1 + (width * bits + 7) // 8)] * height
    pixels = [[number_of_pass(x, y) for x in range(width)] for y in range(height)]
    counts = [row.count(number) for number in range(7) for row in pixels]
    return [bytes(1 + (count * bits + 7) // 8) for count in counts if count]


def number_of_pass(x: int, y: int) -> int:
    """The pass of Adam7 that has a pixel: the pattern that the specification shows."""
    pattern = ("16462646", "77777777", "56565656", "77777777", "36463646", "77777777")
    return int((*pattern, "56565656", "77777777")[y % 8][x % 8]) - 1


def png(size: tuple[int, int], kind: tuple[int, int], data: bytes, *, interlaced: bool) -> bytes:
    colour, bits = kind
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(48)) if colour == PALETTE else b""
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            palette,
            chunk(b"IDAT", zlib.compress(data)),
            chunk(b"IEND", b""),
        )
    )


def seen(content: bytes) -> Pixels:
    return decode(BytesIO(content), GEOMETRY, SETTINGS)[0]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(33, 20), (9, 9), (3, 2), (1, 2000)])
def test_a_row_may_be_black_but_not_missing(
    size: tuple[int, int], kind: tuple[int, int], *, interlaced: bool
) -> None:
    rows = rows_of(size, CHANNELS[kind[0]] * kind[1], interlaced=interlaced)
    assert seen(png(size, kind, b"".join(rows), interlaced=interlaced)).size
    assert seen(png(size, kind, b"".join(rows) + b"more", interlaced=interlaced)).size
    for missing in {1, len(rows) // 2}:
        short = png(size, kind, b"".join(rows[:-missing]), interlaced=interlaced)
        with pytest.raises(CorruptImage, match="truncated"):
            seen(short)


def test_the_error_says_which_row_is_the_first_one() -> None:
    light = b"\0" + bytes([200]) * 30
    with pytest.raises(CorruptImage, match="missing from row 6 of 10 on"):
        seen(png((10, 10), (RGB, 8), light * 6, interlaced=False))


def test_a_large_image_that_ends_black_is_whole() -> None:
    """More than is decompressed at a time, in rows that are not a part of that."""
    rows = rows_of((3001, 1001), 24, interlaced=False)
    assert seen(png((3001, 1001), (RGB, 8), b"".join(rows), interlaced=False)).max() == 0

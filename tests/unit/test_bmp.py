"""BMP files that Pillow does not read: their header says which bits of a pixel are its colours."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import CorruptImage, ImageTypeRefused
from captiond.settings.config import ImageSettings
from tests.imagefiles import encoded, picture

GEOMETRY = Geometry(64, 48, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
set_up_pillow(SETTINGS)
VERSION_1, VERSION_3, VERSION_5 = 40, 56, 124  # by the bytes of the header
BIT_FIELDS, WITH_OPACITY = 3, 6  # kinds of compression
WIDTH, HEIGHT = picture().size
RGB = np.asarray(picture())
# The bits of red, green, blue and opacity, from the highest bit of a pixel on.
FIELDS = [(4, 4, 4, 0), (4, 4, 4, 4), (5, 5, 5, 1), (10, 10, 10, 2), (11, 11, 10, 0), (8, 8, 8, 4)]


def pixels_of(content: bytes) -> Pixels:
    return decode(BytesIO(content), GEOMETRY, SETTINGS)[0]


def bmp(header: bytes, rows: bytes, palette: bytes = b"") -> bytes:
    before = 14 + len(header) + len(palette)
    head = b"BM" + struct.pack("<IHHI", before + len(rows), 0, 0, before)
    return head + header + palette + rows


def with_fields(
    masks: tuple[int, ...], rows: bytes, bits: int, version: int, kind: int, height: int
) -> bytes:
    info = struct.pack("<IiiHHIIiiII", version, WIDTH, height, 1, bits, kind, 0, 0, 0, 0, 0)
    return bmp((info + struct.pack("<4I", *masks)).ljust(version, b"\0"), rows)


def filled(rows: np.ndarray) -> bytes:
    """Return rows of whole words of 32 bits."""
    return b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in rows)


def packed(depths: tuple[int, ...]) -> tuple[tuple[int, ...], np.ndarray, int]:
    """Return the masks of fields of these depths, the pixels, and their bits."""
    shifts = [sum(depths[place + 1 :]) for place in range(4)]
    most = [(1 << depth) - 1 for depth in depths]
    values = np.full((HEIGHT, WIDTH), most[3], np.uint32)
    for place in range(3):
        field = np.rint(RGB[..., place] / 255 * most[place]).astype(np.uint32)
        values |= field << np.uint32(shifts[place])
    bits = 16 if sum(depths) <= 16 else 32
    masks = tuple(value << shift for value, shift in zip(most, shifts, strict=True))
    return masks, values.astype(f"<u{bits // 8}"), bits


@pytest.mark.parametrize("depths", FIELDS)
def test_colours_are_in_the_bits_that_the_masks_name(depths: tuple[int, ...]) -> None:
    masks, values, bits = packed(depths)
    coarse = 255 / ((1 << min(depths[:3])) - 1) / 2
    expected = pixels_of(encoded(picture(), "PNG")).astype(int)
    for version, kind in ((VERSION_5, BIT_FIELDS), (VERSION_1, WITH_OPACITY)):
        for rows, height in ((values, -HEIGHT), (values[::-1], HEIGHT)):
            seen = pixels_of(with_fields(masks, filled(rows), bits, version, kind, height))
            assert np.abs(seen - expected).mean() <= coarse


def test_fields_of_8_bits_may_be_in_any_order() -> None:
    masks = (0xFF, 0xFF00, 0xFF0000, 0)
    rows = np.dstack((RGB, np.zeros_like(RGB[..., :1])))
    content = with_fields(masks, rows.tobytes(), 32, VERSION_3, BIT_FIELDS, -HEIGHT)
    assert np.array_equal(pixels_of(content), pixels_of(encoded(picture(), "PNG")))


def test_opacity_of_any_bits_that_is_zero_everywhere_does_not_count() -> None:
    masks, values, bits = packed((10, 10, 10, 2))
    content = with_fields(masks, filled(values & ~np.uint32(3)), bits, VERSION_5, 3, -HEIGHT)
    assert np.abs(pixels_of(content).astype(int) - pixels_of(encoded(picture(), "PNG"))).max() <= 1


def test_fields_with_too_few_pixels_are_an_error() -> None:
    masks, values, bits = packed((10, 10, 10, 2))
    with pytest.raises(CorruptImage, match="truncated"):
        pixels_of(with_fields(masks, filled(values)[:-4], bits, VERSION_5, BIT_FIELDS, HEIGHT))


def test_the_short_header_of_os_2_is_read() -> None:
    content = bmp(struct.pack("<IiiHH", 16, WIDTH, HEIGHT, 1, 24), filled(RGB[::-1, :, ::-1]))
    assert np.array_equal(pixels_of(content), pixels_of(encoded(picture(), "PNG")))


def test_a_palette_may_be_longer_than_pixels_can_use() -> None:
    grey = np.asarray(picture().convert("L"))
    palette = b"".join(bytes((value, value, value, 0)) for value in range(256)) + bytes(4 * 44)
    info = struct.pack("<IiiHHIIiiII", VERSION_1, WIDTH, HEIGHT, 1, 8, 0, 0, 0, 0, 300, 0)
    expected = pixels_of(encoded(picture().convert("L"), "PNG"))
    assert np.array_equal(pixels_of(bmp(info, filled(grey[::-1]), palette)), expected)


@pytest.mark.parametrize(
    ("bits", "compression", "words"),
    [(2, 0, "2 bits a pixel"), (64, 0, "64 bits"), (24, 4, "compression"), (24, 5, "compression")],
)
def test_a_kind_that_pillow_does_not_read_is_named(bits: int, compression: int, words: str) -> None:
    info = struct.pack(
        "<IiiHHIIiiII", VERSION_1, WIDTH, HEIGHT, 1, bits, compression, 0, 0, 0, 0, 0
    )
    with pytest.raises(ImageTypeRefused, match=words):
        pixels_of(bmp(info, bytes(8 * WIDTH * HEIGHT), bytes(16)))


def test_two_bits_with_the_old_header_of_os_2_are_named() -> None:
    info = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 2)
    with pytest.raises(ImageTypeRefused, match="2 bits"):
        pixels_of(bmp(info, bytes(WIDTH * HEIGHT), bytes(12)))

"""TIFF files with samples of every depth, kind and layout: all show the same picture."""

import random
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import CorruptImage, ImageError, ImageTypeRefused
from captiond.settings.config import ImageSettings
from tests.imagefiles import encoded
from tests.pictures.sample import picture, with_alpha
from tests.pictures.tiff_writer import (
    BLACK_IS_ZERO,
    CMYK,
    FLOAT,
    LAB,
    RGB,
    SIGNED,
    WHITE_IS_ZERO,
    Layout,
    Values,
    scaled,
    tiff,
)

GEOMETRY = Geometry(64, 48, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
set_up_pillow(SETTINGS)
MAX_SAMPLE_VALUE, SUBSAMPLING, SHORT = 281, 530, 3
YCBCR = 6
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"order": ">"},
    {"deflated": True},
    {"planar": True},
    {"tiled": True},
    {"tiled": True, "planar": True, "deflated": True},
    {"reversed_bits": True},
    {"orientation": 6},
]
PREDICTED: list[dict[str, Any]] = [
    {"order": order, "deflated": True, "predictor": 2, "tiled": tiled, "planar": planar}
    for order in "<>"
    for tiled in (False, True)
    for planar in (False, True)
]


def values_of(image: Image.Image) -> Values:
    values = np.asarray(image) / 255
    return values if values.ndim == 3 else values[..., None]


def pixels_of(content: bytes) -> Pixels:
    return decode(BytesIO(content), GEOMETRY, SETTINGS)[0]


def check_same(content: bytes, image: Image.Image, most: float = 2) -> None:
    """Check that a file shows an image, with at most a difference of rounding."""
    expected = pixels_of(encoded(image, "PNG"))
    assert np.abs(pixels_of(content).astype(int) - expected).max() <= most


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16, 32])
def test_colours_in_every_depth_and_layout(bits: int, options: dict[str, Any]) -> None:
    layout = replace(Layout(RGB, bits), **options)
    turned = picture().transpose(Image.Transpose.ROTATE_90) if layout.orientation == 6 else None
    values = values_of(turned or picture())
    check_same(tiff(scaled(values, layout), layout), picture())


@pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, WHITE_IS_ZERO])
@pytest.mark.parametrize("bits", [4, 8, 10, 12, 14, 16, 32])
def test_grey_in_every_depth_and_both_meanings(bits: int, photometric: int) -> None:
    grey = picture().convert("L")
    if bits == 4:
        grey = grey.point(lambda value: value // 17 * 17)
    values = values_of(grey) if photometric == BLACK_IS_ZERO else 1 - values_of(grey)
    for order in "<>":
        layout = Layout(photometric, bits, order=order)
        check_same(tiff(scaled(values, layout), layout), grey)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_floats(bits: int) -> None:
    for layout in (
        Layout(RGB, bits, FLOAT),
        Layout(RGB, bits, FLOAT, order=">", planar=True),
        Layout(RGB, bits, FLOAT, deflated=True, predictor=3),
        Layout(RGB, bits, FLOAT, deflated=True, predictor=3, tiled=True, planar=True),
    ):
        check_same(tiff(scaled(values_of(picture()), layout), layout), picture())
    grey = picture().convert("L")
    layout = Layout(WHITE_IS_ZERO, bits, FLOAT)
    check_same(tiff(scaled(1 - values_of(grey), layout), layout), grey)


def test_floats_that_are_brighter_than_white_are_white() -> None:
    values = values_of(picture())
    values[:4, :4] = 7.5
    layout = Layout(RGB, 32, FLOAT)
    shown = picture()
    shown.paste("white", (0, 0, 4, 4))
    check_same(tiff(scaled(values, layout), layout), shown)


def test_floats_between_minus_1_and_1() -> None:
    """Black is -1 and white is 1, also if the picture has neither."""
    layout = Layout(RGB, 32, FLOAT)
    soft = Image.eval(picture(), lambda value: 30 + value * 3 // 4)
    check_same(tiff(scaled(2 * values_of(soft) - 1, layout), layout), soft)


def test_a_few_floats_below_0_are_black() -> None:
    """A filter leaves them at edges. The picture would be grey if the least value was black."""
    values = values_of(picture())
    values[:4, :4] = -0.4
    values[4:8, :4] = 30.0
    layout = Layout(RGB, 32, FLOAT)
    shown = picture()
    shown.paste("black", (0, 0, 4, 4))
    shown.paste("white", (0, 4, 4, 8))
    check_same(tiff(scaled(values, layout), layout), shown)


def test_many_floats_below_0_are_stretched() -> None:
    layout = Layout(RGB, 32, FLOAT)
    check_same(tiff(scaled(300 * values_of(picture()) - 100, layout), layout), picture())


@pytest.mark.parametrize(("number", "name"), [(34887, "LERC"), (33005, "JPEG 2000"), (999, "999")])
def test_a_compression_that_is_not_read_is_refused_by_its_name(number: int, name: str) -> None:
    content = encoded(picture(), "TIFF", compression="tiff_lzw")
    entry = b"\x03\x01\x03\0\1\0\0\0"
    at = content.index(entry) + len(entry)
    changed = content[:at] + number.to_bytes(2, "little") + content[at + 2 :]
    with pytest.raises(ImageTypeRefused, match=f"TIFF image compressed by .*{name}"):
        pixels_of(changed)


def test_few_colours_without_jpeg_are_refused_by_their_name() -> None:
    layout = Layout(YCBCR, 8, tags=((SUBSAMPLING, SHORT, (2, 2)),))
    with pytest.raises(ImageTypeRefused, match="colours have fewer pixels than its brightness"):
        pixels_of(tiff(np.zeros((8, 8, 3), np.int64), layout))
    values = np.asarray(picture().convert("YCbCr")).astype(np.int64)
    layout = Layout(YCBCR, 8, tags=((SUBSAMPLING, SHORT, (1, 1)),))
    check_same(tiff(values, layout), picture(), 3)


def test_values_that_are_no_numbers_are_black_or_white() -> None:
    values = values_of(picture())
    values[0, 0], values[0, 1], values[0, 2] = np.nan, np.inf, -np.inf
    layout = Layout(RGB, 32, FLOAT)
    shown = picture()
    for column, colour in enumerate(("black", "white", "black")):
        shown.paste(colour, (column, 0, column + 1, 1))
    check_same(tiff(scaled(values, layout), layout), shown)


@pytest.mark.parametrize("bits", [8, 12, 16, 32])
def test_numbers_with_a_sign_are_stretched(bits: int) -> None:
    layout = Layout(BLACK_IS_ZERO, bits, SIGNED)
    grey = picture().convert("L")
    check_same(tiff(scaled(values_of(grey), layout), layout), grey)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_numbers_with_a_sign_that_are_never_negative(bits: int) -> None:
    """Their white is the greatest value that such a number can have."""
    layout = Layout(BLACK_IS_ZERO, bits, SIGNED)
    grey = picture().convert("L")
    most = (1 << (bits - 1)) - 1
    check_same(tiff(np.rint(values_of(grey) * most).astype(np.int64), layout), grey)


@pytest.mark.parametrize("options", PREDICTED, ids=str)
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_predictors(bits: int, options: dict[str, Any]) -> None:
    layout = replace(Layout(RGB, bits), **options)
    check_same(tiff(scaled(values_of(picture()), layout), layout), picture())


def test_the_greatest_value_that_the_file_declares_is_white() -> None:
    most = 3000
    tags = ((MAX_SAMPLE_VALUE, SHORT, (most,)),)
    layout = Layout(BLACK_IS_ZERO, 16, tags=tags)
    grey = picture().convert("L")
    check_same(tiff(np.rint(values_of(grey) * most).astype(np.int64), layout), grey)
    lying = replace(layout, tags=((MAX_SAMPLE_VALUE, SHORT, (7,)),))
    check_same(tiff(scaled(values_of(grey), lying), lying), grey)


@pytest.mark.parametrize("most", [1023, 4095])
def test_colours_of_few_bits_in_words_of_16_are_not_dark(most: int) -> None:
    layout = Layout(RGB, 16)
    check_same(tiff(np.rint(values_of(picture()) * most).astype(np.int64), layout), picture())


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_opacity(bits: int) -> None:
    rgba = values_of(with_alpha())
    multiplied = np.concatenate((rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]), axis=2)
    for values, extra in ((rgba, 2), (rgba, 0), (multiplied, 1)):
        layout = Layout(RGB, bits, extra=(extra,))
        check_same(tiff(scaled(values, layout), layout), with_alpha(), 3)
    layout = Layout(BLACK_IS_ZERO, bits, extra=(2,))
    grey = with_alpha().convert("LA")
    check_same(tiff(scaled(values_of(grey), layout), layout), grey, 3)


@pytest.mark.parametrize("most", [1023, 4095])
def test_opacity_of_few_bits_in_words_of_16(most: int) -> None:
    values = np.rint(values_of(with_alpha()) * most).astype(np.int64)
    check_same(tiff(values, Layout(RGB, 16, extra=(2,))), with_alpha(), 3)


def test_an_extra_sample_that_is_0_everywhere_is_no_opacity() -> None:
    rgba = values_of(with_alpha())
    rgba[..., 3] = 0
    for bits in (8, 16):
        layout = Layout(RGB, bits, extra=(0,))
        check_same(tiff(scaled(rgba, layout), layout), picture())


def test_several_extra_samples_without_a_meaning_are_no_opacity() -> None:
    rgb = values_of(picture())
    more = np.concatenate((rgb, 1 - rgb[..., :2]), axis=2)
    layout = Layout(RGB, 16, extra=(0, 0))
    check_same(tiff(scaled(more, layout), layout), picture())


@pytest.mark.parametrize("bits", [8, 16])
def test_inks_and_lab(bits: int) -> None:
    inks = picture().convert("CMYK")
    for planar in (False, True):
        layout = Layout(CMYK, bits, planar=planar)
        check_same(tiff(scaled(values_of(inks), layout), layout), inks.convert("RGB"))
    grey = np.tile(np.linspace(0, 1, 60)[None, :, None], (40, 1, 1))
    lab = np.concatenate((grey, np.zeros((40, 60, 2))), axis=2)  # a* and b* have a sign
    layout = Layout(LAB, bits)
    pixels = pixels_of(tiff(scaled(lab, layout), layout)).astype(int)
    assert (np.ptp(pixels, axis=-1) <= 3).all(), "grey"
    assert pixels[..., 1].min() < 10
    assert pixels[..., 1].max() > 245


@pytest.mark.parametrize("kind", [1, 4])
def test_a_thumbnail_or_a_mask_before_the_image_is_not_the_image(kind: int) -> None:
    image, file = picture(), BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file) as pages:
        for each, mark in ((image.resize((16, 12)), kind), (image, 0)):
            each.save(pages, "TIFF", tiffinfo={254: mark})
            pages.newFrame()
    content = file.getvalue()
    assert decode(BytesIO(content), GEOMETRY, SETTINGS)[1] == image.size
    check_same(content, image)


def test_samples_that_nobody_writes_are_refused() -> None:
    for layout in (
        Layout(RGB, 8, format=5),
        Layout(RGB, 40),
        Layout(RGB, 24, FLOAT),
    ):
        samples = np.zeros((8, 8, 3), np.int64)
        with pytest.raises(CorruptImage):
            pixels_of(tiff(samples, layout))


def test_damaged_files_give_pixels_or_an_image_error() -> None:
    rng = random.Random(20)
    whole = []
    for layout in (
        Layout(RGB, 12),
        Layout(RGB, 16, planar=True, deflated=True, predictor=2),
        Layout(RGB, 32, FLOAT, tiled=True, deflated=True, predictor=3),
        Layout(RGB, 10, tiled=True, order=">"),
        Layout(BLACK_IS_ZERO, 16, extra=(2,)),
    ):
        values = values_of(with_alpha().convert("LA") if layout.extra else picture())
        whole.append(tiff(scaled(values, layout), layout))
    for _ in range(300):
        content = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 4)):
            # The directory is at the end.
            at = rng.randrange(len(content) - 400, len(content))
            content[at] = rng.randrange(256)
        try:
            assert pixels_of(bytes(content)).shape == (64, 48, 3)
        except ImageError:
            continue

"""Images that stay whole when they are decoded, because the device resizes them."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.decoding.resampling import resized
from captiond.settings.config import ImageSettings
from tests.imagefiles import encoded, in_mode, oriented, picture, variants
from tests.pictures.sample import rgb_profile

REDUCED = Geometry(32, 24, Image.Resampling.BICUBIC)
WHOLE = replace(REDUCED, whole_bytes=3 * 256 * 256)
SETTINGS = ImageSettings()


@pytest.fixture(autouse=True)
def pillow() -> None:
    set_up_pillow(SETTINGS)


def decoded(content: bytes, geometry: Geometry) -> tuple[Pixels, tuple[int, int]]:
    return decode(BytesIO(content), geometry, SETTINGS)


def test_a_whole_image_of_any_kind_is_resized_to_the_same_pixels() -> None:
    wholes = set[str]()
    for name, content in variants(picture()):
        expected, size = decoded(content, REDUCED)
        pixels, size_of_whole = decoded(content, WHOLE)
        assert size_of_whole == size, name
        if pixels.shape == REDUCED.shape:
            assert np.array_equal(pixels, expected), name
            continue
        height, width, _ = pixels.shape
        assert (width, height) == size, name
        assert np.array_equal(resized(pixels, WHOLE), expected), name
        wholes.add(name.split()[0])
    assert {"RGB", "L", "RGBA", "P", "I;16", "CMYK"} <= wholes


@pytest.mark.parametrize("space", ["p3", "srgb-like"])
def test_an_image_whose_colours_are_converted_is_reduced_before(space: str) -> None:
    content = encoded(picture(), "PNG", icc_profile=rgb_profile(space))
    pixels, _ = decoded(content, WHOLE)
    assert (pixels.shape == REDUCED.shape) == (space == "p3")
    if space == "p3":
        assert np.array_equal(pixels, decoded(content, REDUCED)[0])


@pytest.mark.parametrize("size", [(257, 256), (3000, 10), (10, 3000), (47, 32)])
def test_an_image_that_is_too_large_or_small_is_resized_here(size: tuple[int, int]) -> None:
    """So is one that is too large between the passes."""
    pixels, _ = decoded(encoded(picture(*size), "PNG"), WHOLE)
    assert pixels.shape == REDUCED.shape


def test_on_a_cpu_no_image_stays_whole() -> None:
    assert not REDUCED.stays_whole(1, 1)


def test_a_draft_of_a_jpeg_stays_as_large_as_the_draft_is() -> None:
    pixels, size = decode(
        BytesIO(encoded(picture(400, 300), "JPEG")), WHOLE, ImageSettings(jpeg_draft=True)
    )
    assert size == (400, 300)
    assert pixels.shape == (38, 50, 3)
    small, _ = decode(
        BytesIO(encoded(picture(128, 128), "JPEG")), WHOLE, ImageSettings(jpeg_draft=True)
    )
    assert small.shape == REDUCED.shape, "the draft has 32 x 32 pixels"


@pytest.mark.parametrize("size", [(300, 1000), (1000, 300)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_a_device_and_a_decoder_make_the_same_pixels_of_an_image_of_several_parts(
    size: tuple[int, int], orientation: int, mode: str
) -> None:
    """Pillow resizes a high one columns first. It is left to decoders if they do it in parts."""
    content = encoded(in_mode(noise(*size), mode), "PNG", exif=oriented(orientation))
    whole = replace(WHOLE, whole_bytes=3 * 1000 * 1000)
    pixels, (_, height) = decoded(content, whole)
    stays_whole = pixels.shape != REDUCED.shape
    shown = resized(pixels, whole) if stays_whole else pixels
    assert np.array_equal(shown, decoded(content, REDUCED)[0])
    assert stays_whole == (height == 300 or (orientation == 1 and mode in {"RGB", "L"}))


def noise(width: int, height: int) -> Image.Image:
    numbers = np.random.default_rng(width)
    return Image.fromarray(numbers.integers(0, 256, (height, width, 3), dtype=np.uint8))

"""Which of the chunks of a PNG say what its colours mean. Chromium shows each of these files so."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.files.made_profile import made_profile
from captiond.decoding.geometry import Geometry, Pixels
from captiond.decoding.profiles import srgb_transform
from captiond.settings.config import ImageSettings
from tests.imagefiles import chunk, encoded, with_chunks
from tests.pictures.sample import SPACES, grey_profile, in_space, picture, rgb_profile
from tests.pictures.viewer import difference

GEOMETRY = Geometry(64, 96, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
set_up_pillow(SETTINGS)
LINEAR = {"RGB": rgb_profile("linear"), "L": grey_profile(1.0)}


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(100_000 * value)))


def chromaticities(space: str) -> bytes:
    red, green, blue, white, _ = SPACES[space]
    points = (*white, *red, *green, *blue)
    return chunk(b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in points)))


def profile(content: bytes) -> bytes:
    return chunk(b"iCCP", b"x\0\0" + zlib.compress(content))


SRGB = chunk(b"sRGB", b"\0")
SWAPPED = profile(rgb_profile("swapped"))
P3 = chunk(b"cICP", bytes((12, 13, 0, 1)))
WRONG_NUMBERS = chunk(b"cICP", bytes((99, 13, 0, 1)))


def seen(*chunks: bytes, mode: str = "RGB", settings: ImageSettings = SETTINGS) -> Pixels:
    content = with_chunks(encoded(picture().convert(mode), "PNG"), *chunks)
    return decode(BytesIO(content), GEOMETRY, settings)[0]


@pytest.mark.parametrize(
    ("chunks", "meant"),
    [
        ((gamma(1.0),), (LINEAR["RGB"],)),
        ((gamma(1 / 1.8), chromaticities("prophoto")), (rgb_profile("prophoto"),)),
        ((gamma(1 / 2.2), chromaticities("swapped")), (rgb_profile("swapped"),)),
        ((chromaticities("swapped"),), ()),
        ((SRGB, gamma(1.0), chromaticities("swapped")), ()),
        ((SWAPPED, SRGB, gamma(1.0)), (rgb_profile("swapped"),)),
        ((profile(b""), gamma(1.0)), (LINEAR["RGB"],)),
        ((P3, SWAPPED, SRGB, gamma(1.0)), (rgb_profile("p3"),)),
        ((WRONG_NUMBERS, SWAPPED), (rgb_profile("swapped"),)),
        ((gamma(0.0),), ()),
        ((gamma(400.0),), ()),
        ((chunk(b"gAMA", b""),), ()),
        ((gamma(1.0), chunk(b"cHRM", b"short")), (LINEAR["RGB"],)),
        ((gamma(1.0), chunk(b"cHRM", bytes(32))), ()),
    ],
)
def test_the_first_of_the_chunks_that_say_it_counts(
    chunks: tuple[bytes, ...], meant: tuple[bytes, ...]
) -> None:
    expected = seen(*(profile(each) for each in meant))
    assert difference(seen(*chunks), expected) < 1.5
    if meant:
        assert difference(expected, seen()) > 3, "the meaning is visible"


def test_grey_has_a_gamma_or_numbers_or_a_profile_for_rgb() -> None:
    expected = seen(profile(LINEAR["L"]), mode="L")
    assert difference(expected, seen(mode="L")) > 3
    linear = chunk(b"cICP", bytes((1, 8, 0, 1)))
    for each in (gamma(1.0), linear, profile(LINEAR["RGB"])):
        assert difference(seen(each, mode="L"), expected) < 1


def test_what_the_chunks_say_can_be_ignored() -> None:
    ignoring = ImageSettings(color="ignore")
    for each in (gamma(1.0), P3, SWAPPED):
        assert np.array_equal(seen(each, settings=ignoring), seen())


def test_the_usual_gamma_changes_nothing() -> None:
    assert np.array_equal(seen(gamma(1 / 2.2), chromaticities("srgb-like")), seen())


@pytest.mark.parametrize("space", ["adobe", "p3", "prophoto", "swapped"])
def test_a_profile_is_made_of_chromaticities(space: str) -> None:
    red, green, blue, white, exponent = SPACES[space]
    stored = in_space(rgb_profile(space), picture())
    transform = srgb_transform(made_profile(exponent, (white, red, green, blue)), "RGB")
    assert transform is not None
    assert difference(np.asarray(transform.apply(stored)), np.asarray(picture())) < 1.5


def test_no_profile_is_made_of_numbers_that_are_no_colours() -> None:
    line = ((0.3, 0.3), (0.1, 0.1), (0.2, 0.2), (0.3, 0.3))
    outside = ((0.3127, 0.329), (0.64, 0.33), (0.64, 0.33001), (0.15, 0.06))
    for points in (line, outside, ((0.3, 0.0),) * 4):
        assert made_profile(2.2, points) == b""

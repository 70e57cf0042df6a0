"""Colours as they are meant: by ICC profiles, by numbers (H.273), and HDR."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from captiond.decoding.coded_colours import compressed, from_coding, linear_light
from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.files.colour_coding import BT709, BT2020, HLG, PQ, SRGB, ColourCoding
from captiond.decoding.geometry import Geometry, Pixels
from captiond.decoding.profiles import srgb_transform
from captiond.errors import CorruptImage
from captiond.settings.config import ImageSettings
from tests.imagefiles import chunk, encoded, with_chunks
from tests.pictures.sample import grey_profile, in_space, picture, rgb_profile
from tests.pictures.viewer import difference

GEOMETRY = Geometry(64, 96, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
IGNORING = ImageSettings(color="ignore")
set_up_pillow(SETTINGS)
PLAIN = encoded(picture(), "PNG")
OPTIONS = {"PNG": {}, "TIFF": {}, "AVIF": {"subsampling": "4:4:4", "quality": 98}}
SPACES = ("linear", "adobe", "p3", "prophoto", "rec2020", "swapped")


def pixels_of(content: bytes, settings: ImageSettings = SETTINGS) -> Pixels:
    return decode(BytesIO(content), GEOMETRY, settings)[0]


def in_profile(space: str, format_: str, **options: object) -> bytes:
    profile = rgb_profile(space)
    stored = in_space(profile, picture())
    return encoded(stored, format_, icc_profile=profile, **options)


@pytest.mark.parametrize("space", SPACES)
def test_a_profile_says_what_colours_mean(space: str) -> None:
    for format_, options in OPTIONS.items():
        content = in_profile(space, format_, **options)
        assert difference(pixels_of(content), pixels_of(PLAIN)) < 3, format_


def test_profiles_can_be_ignored() -> None:
    content = in_profile("prophoto", "PNG")
    without = encoded(in_space(rgb_profile("prophoto"), picture()), "PNG")
    assert np.array_equal(pixels_of(content, IGNORING), pixels_of(without))
    assert difference(pixels_of(content, IGNORING), pixels_of(PLAIN)) > 8


@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_a_profile_of_grey_is_applied(gamma: float) -> None:
    grey = picture().convert("L")
    values = np.rint(255 * (np.asarray(grey) / 255) ** (2.2 / gamma)).astype(np.uint8)
    expected = pixels_of(encoded(grey, "PNG"))
    for format_, options in (("PNG", {}), ("JPEG", {"quality": 98}), ("TIFF", {})):
        profile = grey_profile(gamma)
        content = encoded(Image.fromarray(values), format_, icc_profile=profile, **options)
        assert difference(pixels_of(content), expected) < 3, format_


def test_a_profile_for_other_pixels_or_without_effect_is_not_applied() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert srgb_transform(srgb, "RGB") is None
    assert srgb_transform(grey_profile(1.0), "RGB") is None
    assert srgb_transform(rgb_profile("adobe"), "L") is None
    assert srgb_transform(rgb_profile("adobe")[:400], "RGB") is None
    assert srgb_transform(rgb_profile("adobe"), "RGB") is not None


def test_the_conversion_of_a_profile_is_made_once() -> None:
    profile = rgb_profile("adobe")
    assert srgb_transform(profile, "RGB") is srgb_transform(bytes(bytearray(profile)), "RGB")


def test_numbers_say_what_colours_mean() -> None:
    stored = encoded(in_space(rgb_profile("p3"), picture()), "PNG")
    coded = with_chunks(stored, chunk(b"cICP", bytes((12, 13, 0, 1))))
    assert difference(pixels_of(coded), pixels_of(PLAIN)) < 3
    assert difference(pixels_of(stored), pixels_of(PLAIN)) > 3
    for numbers in (b"", b"\x0c", bytes((1, 13, 0, 1)), bytes((2, 2, 0, 1)), bytes((99, 1, 0, 1))):
        content = with_chunks(PLAIN, chunk(b"cICP", numbers))
        assert np.array_equal(pixels_of(content), pixels_of(PLAIN))


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_is_shown_as_a_picture_of_its_brightness(transfer: int) -> None:
    """Grey of a known brightness, in light, becomes the grey of sRGB with that brightness."""
    coding = ColourCoding(BT2020, transfer)
    nits = {PQ: {0.58: 201.0, 0.508: 100.0}, HLG: {0.75: 203.0, 0.5: 50.0}}[transfer]
    for value, expected in nits.items():
        grey = np.full((1, 1, 3), value)
        light = float(linear_light(grey, transfer)[0, 0, 0]) * 203
        assert light == pytest.approx(expected, rel=0.05)
    image = Image.fromarray(np.full((4, 4, 3), round(255 * min(nits)), np.uint8))
    shown = np.asarray(from_coding(image, coding))
    assert np.ptp(shown) <= 1, "grey"
    light = nits[min(nits)] / 203
    assert abs(int(shown[0, 0, 0]) - 255 * (1.055 * light ** (1 / 2.4) - 0.055)) < 4


def test_lights_that_are_brighter_than_white_keep_their_order_and_colour() -> None:
    light = np.linspace(0.1, 8.0, 50)[:, None, None] * np.array((1.0, 0.5, 0.25))
    seen = compressed(light)
    assert seen.max() < 1.001
    assert (np.diff(seen[:, 0, 0]) > 0).all()
    assert np.allclose(seen[..., 0], 2 * seen[..., 1])
    dark = light[light[:, 0, 0] <= 0.6]
    assert np.array_equal(compressed(dark), dark)


def with_numbers(profile: bytes, primaries: int, transfer: int) -> bytes:
    """Return a profile whose tag `cprt` has become `cicp`."""
    at = profile.index(b"cprt")
    offset = int.from_bytes(profile[at + 4 : at + 8], "big")
    numbers = b"cicp\0\0\0\0" + bytes((primaries, transfer, 0, 1))
    changed = profile.replace(b"cprt", b"cicp")
    return changed[:offset] + numbers + changed[offset + 12 :]


def test_a_profile_of_hdr_is_recognized_by_its_numbers() -> None:
    profile = with_numbers(rgb_profile("rec2020"), BT2020, PQ)
    icc = encoded(picture(), "PNG", icc_profile=profile)
    coded = with_chunks(PLAIN, chunk(b"cICP", bytes((BT2020, PQ, 0, 1))))
    assert np.array_equal(pixels_of(icc), pixels_of(coded))
    plain = with_numbers(rgb_profile("p3"), BT709, SRGB)
    stored = encoded(in_space(rgb_profile("p3"), picture()), "PNG", icc_profile=plain)
    assert difference(pixels_of(stored), pixels_of(PLAIN)) < 3, "the tables of the profile count"


def test_the_first_frame_of_an_animation_may_not_be_the_default_image() -> None:
    default = encoded(Image.new("RGB", (90, 60), "red"), "PNG")
    frame = Image.new("RGB", (40, 30), "blue")
    raw = b"".join(b"\0" + frame.crop((0, row, 40, row + 1)).tobytes() for row in range(30))
    end = default.rindex(b"IEND") - 4
    header = struct.pack(">5I2H2B", 0, 40, 30, 10, 20, 1, 10, 0, 0)
    data = chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(raw))
    later = struct.pack(">5I2H2B", 2, 90, 60, 0, 0, 1, 10, 0, 0)
    frames = chunk(b"fcTL", header) + data + chunk(b"fcTL", later) + chunk(b"fdAT", b"junk")
    animation = with_chunks(default[:end], chunk(b"acTL", struct.pack(">2I", 2, 0)))
    content = animation + frames + default[end:]
    expected = Image.new("RGB", (90, 60), "white")
    expected.paste(frame, (10, 20))
    assert np.abs(pixels_of(content).astype(int) - pixels_of(encoded(expected, "PNG"))).max() <= 1
    assert decode(BytesIO(content), GEOMETRY, SETTINGS)[1] == (90, 60)
    outside = content.replace(header, struct.pack(">5I2H2B", 0, 40, 30, 80, 20, 1, 10, 0, 0))
    assert np.array_equal(pixels_of(outside), pixels_of(default))
    damaged = content.replace(data, chunk(b"fdAT", struct.pack(">I", 1) + b"damaged"))
    with pytest.raises(CorruptImage):
        pixels_of(damaged)


@pytest.mark.parametrize("announced", [b"", bytes(4), bytes(8), struct.pack(">2I", 2, 0)])
def test_what_does_not_announce_its_frames_before_the_pixels_is_no_animation(
    announced: bytes,
) -> None:
    default = encoded(Image.new("RGB", (90, 60), "red"), "PNG")
    end = default.rindex(b"IEND") - 4
    raw = b"".join(b"\0" + bytes(3 * 90) for _ in range(60))
    frame = chunk(b"fcTL", struct.pack(">5I2H2B", 0, 90, 60, 0, 0, 1, 10, 0, 0))
    frame += chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(raw))
    late = default[:end] + chunk(b"acTL", announced) + frame + default[end:]
    assert np.array_equal(pixels_of(late), pixels_of(default))
    if len(announced) < 8 or not any(announced):
        early = with_chunks(default[:end], chunk(b"acTL", announced)) + frame + default[end:]
        assert np.array_equal(pixels_of(early), pixels_of(default))

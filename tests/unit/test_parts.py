"""Images are reduced part by part, with the result of Pillow for the whole image."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from captiond.decoding import parts
from captiond.decoding.decode import check_parts, decode, memory_needed, set_up_pillow
from captiond.decoding.files.plain import PlainFile
from captiond.decoding.geometry import Geometry, Pixels
from captiond.decoding.parts import boxes_of
from captiond.errors import ImageError, ImageTooSlow, ImageTypeRefused, TooManyPixels
from captiond.settings.config import ImageSettings
from tests.imagefiles import BOMBS, SIDE, blank_png, encoded, picture, variants, with_screen

GEOMETRY = Geometry(64, 48, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
MIB = 1 << 20
set_up_pillow(SETTINGS)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_PIXELS", 1000)


def reference(content: bytes) -> Pixels:
    """Return the pixels of the whole image: upright, on white, as RGB, then resized."""
    with Image.open(BytesIO(content)) as image:
        whole: Image.Image = image
        if image.mode.startswith("I;16"):
            whole = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
            whole.info["exif"] = image.info.get("exif", b"")
        upright = ImageOps.exif_transpose(whole)
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            upright = Image.alpha_composite(white, rgba)
        size, resample = (GEOMETRY.width, GEOMETRY.height), Image.Resampling(GEOMETRY.resample)
        return np.asarray(upright.convert("RGB").resize(size, resample))


def test_every_mode_format_and_orientation_gives_the_pixels_of_the_whole_image() -> None:
    number = 0
    for name, content in variants(picture(131, 97)):
        if name.split()[0] in {"LAB", "I", "F"}:  # scaled, or converted after the reduction
            decode(BytesIO(content), GEOMETRY, SETTINGS)
            continue
        pixels, _ = decode(BytesIO(content), GEOMETRY, SETTINGS)
        assert np.array_equal(pixels, reference(content)), name
        number += 1
    assert number > 200


def test_what_a_frame_does_not_cover_is_white() -> None:
    frame = Image.new("RGB", (40, 20), (200, 0, 0))
    pixels, size = decode(BytesIO(with_screen(encoded(frame, "GIF"), 80, 40)), GEOMETRY, SETTINGS)
    assert size == (80, 40)
    assert pixels[:30, :22].max(axis=(0, 1)).tolist() == [200, 0, 0]
    assert pixels[34:].min() == pixels[:, 26:].min() == 255


def test_sides_that_are_too_long_are_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LONGEST_SIDE", 70)
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x112] = orientation
        content = encoded(picture(400, 90), "PNG", exif=exif)
        pixels, size = decode(BytesIO(content), GEOMETRY, SETTINGS)
        assert size == ((400, 90) if orientation == 1 else (90, 400))
        assert np.abs(pixels.astype(int) - reference(content)).mean() < 12


@pytest.mark.parametrize(("across", "down"), [(1, 1), (3, 2), (2000, 1)])
def test_boxes_cover_an_area_once(across: int, down: int) -> None:
    area = np.zeros((90, 2300), int)
    for left, top, right, bottom in boxes_of(2300, 90, across, down):
        assert left % across == top % down == 0
        area[top:bottom, left:right] += 1
    assert (area == 1).all()


@pytest.mark.parametrize("name", [name for name in BOMBS if "with" in name or "pixels" in name])
def test_expensive_files_are_refused_before_their_pixels_are_decoded(name: str) -> None:
    cheap = {"png with long text", "gif with a large screen", "tiff with unknown tags"}
    cheap |= {"bmp with rows of one run"}
    needed: list[int] = []
    try:
        decode(BytesIO(BOMBS[name]()), GEOMETRY, SETTINGS, needed.append)
        assert name in cheap
        assert needed[0] < 250 * MIB
    except (ImageTooSlow, ImageTypeRefused, TooManyPixels):
        assert name not in cheap
        assert needed == []


def test_memory_is_estimated_from_the_header() -> None:
    def needed(content: bytes) -> int:
        asked: list[int] = []

        def reserve(amount: int) -> None:
            asked.append(amount)
            raise MemoryError

        with pytest.raises(MemoryError):
            decode(BytesIO(content), GEOMETRY, SETTINGS, reserve)
        return asked[0]

    assert needed(blank_png(SIDE, SIDE, 1, 0)) < 90 * MIB
    assert 180 * MIB < needed(blank_png(SIDE, SIDE, 8, 2)) < 300 * MIB
    assert needed(encoded(picture(), "PNG")) < 64 * MIB
    row = needed(blank_png(50_000_000, 1, 8, 6))
    assert 500 * MIB < row < 1024 * MIB


def test_parts_are_compared_with_the_allowed_time() -> None:
    file = PlainFile(b"", 10, 10, 4, parts="9 scans", parts_seconds=3)
    check_parts(file, 4)
    with pytest.raises(ImageTooSlow, match="with 9 scans, decoding takes more than 2 seconds"):
        check_parts(file, 2)
    with pytest.raises(ImageError, match="50000000 rows"):
        check_parts(PlainFile(b"", 1, 50_000_000, 4), 2)
    assert memory_needed(file, GEOMETRY) > 400

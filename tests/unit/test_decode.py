"""Decoding of all kinds of files: to pixels, or to an error that says what is wrong."""

import random
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from captiond.decoding.decode import decode as decode_file
from captiond.decoding.decode import set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import (
    CorruptImage,
    EmptyImage,
    ImageError,
    ImageTypeRefused,
    NotAnImage,
    TooManyPixels,
)
from captiond.settings.config import ImageSettings

GEOMETRY = Geometry(64, 48, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def pillow() -> None:
    set_up_pillow(SETTINGS)


@pytest.fixture
def picture() -> Image.Image:
    """A picture whose corners all differ."""
    image = Image.effect_noise((90, 60), 30).convert("RGB")
    image.paste((200, 10, 10), (0, 0, 30, 20))
    image.paste((10, 200, 10), (60, 40, 90, 60))
    return image


def decode(
    path: Path, geometry: Geometry, settings: ImageSettings
) -> tuple[Pixels, tuple[int, int]]:
    with path.open("rb") as file:
        return decode_file(file, geometry, settings)


def saved(folder: Path, image: Image.Image, format_: str, **options: object) -> Path:
    path = folder / f"file.{format_}"
    image.save(path, format_, **options)
    return path


def test_pixels_are_those_of_the_processor_of_transformers(
    tmp_path: Path, picture: Image.Image
) -> None:
    processor = BlipImageProcessorPil(size={"height": 64, "width": 48}, do_normalize=False)
    expected = processor(picture, do_rescale=False, return_tensors="np")["pixel_values"][0]
    pixels, size = decode(saved(tmp_path, picture, "png"), GEOMETRY, SETTINGS)
    assert size == (90, 60)
    assert np.array_equal(pixels, np.moveaxis(expected, 0, -1))


@pytest.mark.parametrize("format_", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "mpo"])
def test_every_type_is_read(tmp_path: Path, picture: Image.Image, format_: str) -> None:
    expected, _ = decode(saved(tmp_path, picture, "bmp"), GEOMETRY, SETTINGS)
    pixels, size = decode(saved(tmp_path, picture, format_), GEOMETRY, SETTINGS)
    assert size == (90, 60)
    assert np.abs(pixels.astype(int) - expected.astype(int)).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, picture: Image.Image, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture.transpose(undo[orientation]) if orientation in undo else picture
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright, _ = decode(saved(tmp_path, picture, "png"), GEOMETRY, SETTINGS)
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    pixels, size = decode(path, GEOMETRY, SETTINGS)
    assert size == (90, 60)
    assert np.array_equal(pixels, upright)


@pytest.mark.parametrize(
    ("mode", "format_"),
    [
        ("1", "png"), ("L", "png"), ("P", "png"), ("LA", "png"), ("RGBA", "png"), ("I;16", "png"),
        ("CMYK", "jpeg"), ("CMYK", "tiff"), ("LAB", "tiff"), ("I", "tiff"), ("F", "tiff"),
        ("YCbCr", "jpeg"), ("PA", "gif"),
    ],
)  # fmt: skip
def test_every_mode_keeps_its_brightness(tmp_path: Path, mode: str, format_: str) -> None:
    """The left half of the image is bright and the right half is dark, in every mode."""
    grey = Image.new("L", (80, 40), 40)
    grey.paste(220, (0, 0, 40, 40))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.merge("LAB", (grey, *(Image.new("L", grey.size, 128) for _ in "ab")))
    elif mode == "PA":
        image = grey.convert("P")
    else:
        image = grey.convert("RGB" if mode == "YCbCr" else mode)
    pixels, _ = decode(saved(tmp_path, image, format_), GEOMETRY, SETTINGS)
    left, right = pixels[:, :20].mean(), pixels[:, 28:].mean()
    assert left > 150
    assert right < 100


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    pixels, _ = decode(saved(tmp_path, clear, "png"), GEOMETRY, SETTINGS)
    assert pixels.min() == 255
    palette = Image.new("P", (10, 10), 0)
    pixels, _ = decode(saved(tmp_path, palette, "gif", transparency=0), GEOMETRY, SETTINGS)
    assert pixels.min() == 255


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyImage),
        (b"GIF", NotAnImage),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ImageTypeRefused),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, CorruptImage),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, CorruptImage),
        (b"\0\0\0\x20ftypheic\0\0\0\0mif1heic", ImageTypeRefused),
    ],
)
def test_a_file_that_is_not_an_image_is_an_error(
    tmp_path: Path, content: bytes, error: type[ImageError]
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(error):
        decode(path, GEOMETRY, SETTINGS)


@pytest.mark.parametrize("format_", ["jpeg", "png", "webp", "gif", "bmp", "tiff"])
def test_a_truncated_file_is_an_error(tmp_path: Path, picture: Image.Image, format_: str) -> None:
    path = saved(tmp_path, picture, format_)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptImage):
        decode(path, GEOMETRY, SETTINGS)


def test_pixels_are_counted_before_they_are_decoded(tmp_path: Path) -> None:
    bomb = Image.new("1", (13_000, 13_000))
    path = saved(tmp_path, bomb, "png")
    assert path.stat().st_size < 200_000
    with pytest.raises(TooManyPixels, match="169000000 pixels; at most 50000000"):
        decode(path, GEOMETRY, SETTINGS)


def test_the_type_of_a_file_is_that_of_its_bytes_and_not_of_its_name(
    tmp_path: Path, picture: Image.Image
) -> None:
    path = tmp_path / "liar.jpg"
    picture.save(path, "png")
    assert decode(path, GEOMETRY, SETTINGS)[1] == (90, 60)
    with pytest.raises(ImageTypeRefused):
        decode(path, GEOMETRY, ImageSettings(types=("jpeg",)))


@pytest.mark.parametrize("format_", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_damaged_files_give_pixels_or_an_image_error(
    tmp_path: Path, picture: Image.Image, format_: str
) -> None:
    rng = random.Random(format_)
    buffer = BytesIO()
    picture.save(buffer, format_)
    path = tmp_path / "damaged"
    for _ in range(100):
        content = bytearray(buffer.getvalue())
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        with suppress(ImageError):
            pixels, _ = decode(path, GEOMETRY, SETTINGS)
            assert pixels.shape == (64, 48, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_draft_of_a_jpeg_is_nearly_the_same(tmp_path: Path, orientation: int) -> None:
    soft = Image.effect_noise((40, 30), 60).convert("RGB").resize((1600, 1200))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = saved(tmp_path, soft, "jpeg", exif=exif)
    whole, size = decode(path, GEOMETRY, SETTINGS)
    draft, size_of_draft = decode(path, GEOMETRY, SETTINGS.model_copy(update={"jpeg_draft": True}))
    assert size_of_draft == size == ((1600, 1200) if orientation == 1 else (1200, 1600))
    difference = np.abs(whole.astype(int) - draft.astype(int))
    assert 0 < difference.mean() < 2


def test_there_is_no_draft_of_other_formats(tmp_path: Path, picture: Image.Image) -> None:
    path = saved(tmp_path, picture.resize((900, 600)), "png")
    draft, _ = decode(path, GEOMETRY, SETTINGS.model_copy(update={"jpeg_draft": True}))
    assert np.array_equal(draft, decode(path, GEOMETRY, SETTINGS)[0])

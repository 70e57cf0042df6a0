"""TIFF files whose strips or tiles are WebP images."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import CorruptImage, ImageError, ImageTooSlow
from captiond.settings.config import ImageSettings
from tests.imagefiles import encoded
from tests.pictures.sample import picture, with_alpha
from tests.pictures.tiff_writer import LONG, RGB, ROWS, SHORT, TILE, Layout, assembled, parts_of

GEOMETRY = Geometry(64, 96, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings()
set_up_pillow(SETTINGS)
WEBP, UNASSOCIATED = 50001, 2


def webp_tiff(
    image: Image.Image, layout: Layout, *, sides: int = 0, parts: int | None = None
) -> bytes:
    """Return a TIFF; its last part has sides of the length `sides`, and it has so many parts."""
    pixels = np.asarray(image)
    packed = [
        encoded(Image.fromarray(np.ascontiguousarray(part)), "WEBP", lossless=True, exact=True)
        for part in parts_of(pixels, layout)
    ]
    if sides:
        packed[-1] = encoded(Image.new(image.mode, (sides, sides)), "WEBP")
    number = pixels.shape[2]
    tags: list[tuple[int, int, tuple[int, ...]]] = [
        (256, LONG, (image.width,)),
        (257, LONG, (image.height,)),
        (258, SHORT, (8,) * number),
        (259, SHORT, (WEBP,)),
        (262, SHORT, (RGB,)),
        (277, SHORT, (number,)),
        (284, SHORT, (2 if layout.planar else 1,)),
    ]
    if number == 4:
        tags.append((338, SHORT, (UNASSOCIATED,)))
    size = ((322, LONG, (TILE,)), (323, LONG, (TILE,))) if layout.tiled else ((278, LONG, (ROWS,)),)
    return assembled([*tags, *size], packed[:parts], layout)


def shown(content: bytes) -> Pixels:
    return decode(BytesIO(content), GEOMETRY, SETTINGS)[0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("tiled", [False, True], ids=["strips", "tiles"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_the_picture_is_seen(mode: str, tiled: bool, order: str) -> None:
    image = (with_alpha() if mode == "RGBA" else picture()).crop((0, 0, 191, 127))
    content = webp_tiff(image, Layout(RGB, tiled=tiled, order=order))
    found, expected = shown(content).astype(int), shown(encoded(image, "PNG"))
    assert np.abs(found - expected).max() <= 1


def test_a_part_that_is_too_large_or_missing_makes_the_file_corrupt() -> None:
    with pytest.raises(CorruptImage, match="larger than the file says"):
        shown(webp_tiff(picture(), Layout(RGB, tiled=True), sides=TILE + 1))
    with pytest.raises(CorruptImage, match="too few strips"):
        shown(webp_tiff(picture(), Layout(RGB), parts=2))
    with pytest.raises(CorruptImage, match="no such samples"):
        shown(webp_tiff(picture(), Layout(RGB, planar=True)))
    small = shown(webp_tiff(picture(), Layout(RGB, tiled=True), sides=9))
    assert small.shape == (64, 96, 3)


def test_very_many_parts_take_too_long() -> None:
    tall = Image.new("RGB", (1, 1))
    content = webp_tiff(tall, Layout(RGB)).replace(
        (257).to_bytes(2, "little") + b"\4\0\1\0\0\0\1\0\0\0",
        (257).to_bytes(2, "little") + b"\4\0\1\0\0\0" + (32_000_000).to_bytes(4, "little"),
    )
    with pytest.raises(ImageTooSlow, match="1000000 strips or tiles"):
        shown(content)


def test_damaged_files_give_pixels_or_an_image_error() -> None:
    rng = np.random.default_rng(3)
    whole = [webp_tiff(picture(), Layout(RGB, tiled=tiled)) for tiled in (False, True)]
    for _ in range(200):
        content = bytearray(whole[rng.integers(2)])
        for _ in range(rng.integers(1, 5)):
            place = rng.integers(len(content)) if rng.integers(2) else -rng.integers(1, 300)
            content[place] = rng.integers(256)
        try:
            assert shown(bytes(content)).shape == (64, 96, 3)
        except ImageError:
            continue

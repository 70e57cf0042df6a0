"""With `color = "ignore"`, pixels are those of the image processor of BLIP, with few exceptions."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from captiond.decoding.decode import decode, set_up_pillow
from captiond.decoding.geometry import Geometry, Pixels
from captiond.settings.config import ImageSettings
from tests.imagefiles import chunk, encoded, oriented, with_chunks, with_screen
from tests.pictures.generated_common import TRUECOLOUR, png, rows_of
from tests.pictures.sample import grey_profile, picture, rgb_profile, with_alpha

GEOMETRY = Geometry(64, 96, Image.Resampling.BICUBIC)
SETTINGS = ImageSettings(color="ignore")
PROCESSOR = BlipImageProcessorPil(size={"height": 64, "width": 96}, do_normalize=False)
set_up_pillow(SETTINGS)
GREY, PALETTE = picture().convert("L"), picture().quantize(64)
PROPHOTO = rgb_profile("prophoto")
DEEP_GREY = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
SAME = {
    "RGB PNG": encoded(picture(), "PNG"),
    "RGB JPEG": encoded(picture(), "JPEG"),
    "RGB WebP": encoded(picture(), "WEBP"),
    "RGB BMP": encoded(picture(), "BMP"),
    "RGB TIFF": encoded(picture(), "TIFF"),
    "RGB AVIF": encoded(picture(), "AVIF"),
    "RGB JPEG 2000": encoded(picture(), "JPEG2000"),
    "RGB tall": encoded(picture().resize((90, 400)), "PNG"),
    "RGB wide": encoded(picture().resize((400, 90)), "PNG"),
    "RGB of 16 bits": png(rows_of(picture(), 16), 16, TRUECOLOUR),
    "grey PNG": encoded(GREY, "PNG"),
    "grey JPEG": encoded(GREY, "JPEG"),
    "grey of 1 bit": encoded(picture().convert("1"), "PNG"),
    "palette PNG": encoded(PALETTE, "PNG"),
    "palette tall": encoded(picture().resize((90, 400)).quantize(64), "PNG"),
    "palette with a clear colour": encoded(PALETTE, "PNG", transparency=3),
    "palette GIF": encoded(PALETTE, "GIF"),
    "animated GIF": encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(90)]),
    "RGB with a clear colour": encoded(picture(), "PNG", transparency=(255, 0, 0)),
    "RGBA PNG": encoded(with_alpha(), "PNG"),
    "RGBA WebP": encoded(with_alpha(), "WEBP", lossless=True),
    "grey with opacity": encoded(with_alpha().convert("LA"), "PNG"),
    "CMYK JPEG": encoded(picture().convert("CMYK"), "JPEG"),
    "CMYK TIFF": encoded(picture().convert("CMYK"), "TIFF"),
    "YCbCr TIFF": encoded(picture().convert("YCbCr"), "TIFF"),
    "profile PNG": encoded(picture(), "PNG", icc_profile=PROPHOTO),
    "profile JPEG": encoded(picture(), "JPEG", icc_profile=PROPHOTO),
    "profile TIFF": encoded(picture(), "TIFF", icc_profile=PROPHOTO),
    "profile of grey": encoded(GREY, "PNG", icc_profile=grey_profile(1.0)),
    "numbers of HDR": with_chunks(encoded(picture(), "PNG"), chunk(b"cICP", b"\x09\x10\0\1")),
    "gamma": with_chunks(encoded(picture(), "PNG"), chunk(b"gAMA", b"\0\1\x86\xa0")),
}
# What the processor does not know of, or what Pillow does with the file is wrong.
OTHER = {
    "orientation": encoded(picture(), "PNG", exif=oriented(6)),
    "grey of 16 bits": encoded(DEEP_GREY, "PNG"),
    "CIELAB": encoded(Image.merge("LAB", picture().split()), "TIFF"),
    "a frame that is smaller than the canvas": with_screen(encoded(PALETTE, "GIF"), 300, 200),
}


def by_transformers(image: Image.Image) -> Pixels:
    """Return the pixels that the processor gives, before they are normalized."""
    pixels = PROCESSOR(image, do_rescale=False, return_tensors="np")["pixel_values"][0]
    return np.moveaxis(np.asarray(pixels), 0, -1)


def both(content: bytes) -> tuple[Pixels, Pixels]:
    with Image.open(BytesIO(content)) as image:
        return decode(BytesIO(content), GEOMETRY, SETTINGS)[0], by_transformers(image)


@pytest.mark.parametrize("name", SAME)
def test_pixels_are_those_of_the_processor(name: str) -> None:
    ours, theirs = both(SAME[name])
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", OTHER)
def test_where_captiond_differs_on_purpose(name: str) -> None:
    ours, theirs = both(OTHER[name])
    assert not np.array_equal(ours, theirs)


def test_apart_from_the_turn_a_turned_image_is_the_same() -> None:
    with Image.open(BytesIO(OTHER["orientation"])) as image:
        upright = by_transformers(ImageOps.exif_transpose(image))
    assert np.array_equal(both(OTHER["orientation"])[0], upright)


def test_a_large_image_whose_mode_is_converted_differs_by_rounding_only() -> None:
    """Pillow resizes its columns first, and captiond its rows."""
    ours, theirs = both(encoded(picture().resize((600, 1800)).quantize(64), "PNG"))
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert 0 < difference.max() <= 4
    assert difference.mean() < 0.3

"""Decodes an image file to the pixels that a model takes. It runs in a decode process.

A file is opened only as the type that its first bytes indicate. Of an animation or a file of
several pages, only the first frame is read.
"""

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from captiond.config import ImageSettings
from captiond.errors import CorruptImage, EmptyImage, ImageError, TooManyPixels
from captiond.imagetypes import check_type

PILLOW_FORMATS = {
    "jpeg": ("JPEG", "MPO"),
    "png": ("PNG",),
    "webp": ("WEBP",),
    "gif": ("GIF",),
    "bmp": ("BMP",),
    "tiff": ("TIFF",),
    "avif": ("AVIF",),
    "heif": ("HEIF",),
}
WHITE = (255, 255, 255, 255)
QUARTER_TURNS = {5, 6, 7, 8}  # EXIF orientations that exchange width and height
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The size of a model's input in pixels, and Pillow's number of the resampling filter."""

    height: int
    width: int
    resample: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3


def set_up_pillow(settings: ImageSettings) -> None:
    """Prepare Pillow in this process.

    captiond checks the number of pixels itself, from the header. Pillow's limit would only warn.
    """
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if "heif" in settings.types:
        import pi_heif

        pi_heif.register_heif_opener()


def decode(
    file: BinaryIO, geometry: Geometry, settings: ImageSettings
) -> tuple[Pixels, tuple[int, int]]:
    """Return the pixels of an image file, uint8 [height, width, 3], and the (width, height) of the
    upright image.

    Raises:
        ImageError: the file is not an image that can be captioned. The message says why.
        OSError: the file itself cannot be read.
    """
    head = file.read(64)
    if not head:
        raise EmptyImage("the file is empty")
    formats = PILLOW_FORMATS[check_type(head, settings.types)]
    file.seek(0)
    try:
        with Image.open(file, formats=formats) as image:
            check_size(image, settings.max_pixels)
            size = upright_size(image)
            if settings.jpeg_draft:
                least = max(geometry.width, geometry.height)  # it may still be rotated
                image.draft("RGB", (least, least))  # other formats ignore it
            return resize(ImageOps.exif_transpose(to_rgb(image)), geometry), size
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise CorruptImage("the image's header cannot be read") from error
    except Exception as error:  # Pillow raises whatever the damage of a file leads to
        raise CorruptImage(f"the image is truncated or damaged: {error}") from error


def check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise TooManyPixels(
            f"{image.width} x {image.height} is {pixels} pixels; at most {max_pixels} are allowed"
        )


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height after the rotation that its EXIF data asks for."""
    width, height = image.size
    turned = image.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS
    return (height, width) if turned else (width, height)


def resize(image: Image.Image, geometry: Geometry) -> Pixels:
    filter_ = Image.Resampling(geometry.resample)
    return np.asarray(image.resize((geometry.width, geometry.height), filter_))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an RGB image of the same size with its EXIF data. Transparent parts become white."""
    exif = image.getexif()
    converted = converted_to_rgb(image)
    converted.info["exif"] = exif.tobytes()
    return converted


def converted_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image.copy()
    if image.mode.startswith("I;16"):
        return from_high_depth(np.asarray(image, dtype=np.float64) / 257)
    if image.mode in {"I", "F"}:
        return from_high_depth(to_bytes_range(np.asarray(image, dtype=np.float64)))
    if image.mode == "LAB":
        return lab_to_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def to_bytes_range(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scale grey values to 0…255. Their depth is the smallest one that has all these values."""
    top = float(np.nanmax(values, initial=0.0))
    if top <= 1.0:
        return values * 255
    if top <= 255.0:
        return values
    return values / 257 if top <= 65535.0 else values * (255 / top)


def from_high_depth(values: npt.NDArray[np.float64]) -> Image.Image:
    bounded = np.nan_to_num(values, nan=0.0).clip(0, 255)
    return Image.fromarray(np.rint(bounded).astype(np.uint8)).convert("RGB")


def lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # it is None only when it converts in place
    return converted

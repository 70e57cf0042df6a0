"""Conversion of pixels of all kinds to RGB, part by part, so that no second full copy is needed."""

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from captiond.decoding.files.icc import needs_conversion
from captiond.decoding.files.plain import PlainFile
from captiond.decoding.parts import boxes_of

WHITE = (255, 255, 255, 255)
FULL_16 = 65535
FULL = (FULL_16, (1 << 24) - 1, 1 << 32)
LOW_DEPTHS = (1023, 4095)  # greatest values of 10 and 12 bits, which may be stored in 16
Convert = Callable[[Image.Image], Image.Image]
Profile = ImageCms.ImageCmsProfile
Floats = npt.NDArray[np.float32]


def part_mode(image: Image.Image, plain: PlainFile) -> str:
    """Return the mode that parts are converted to before they are reduced.

    A conversion by a profile takes long, so it follows the reduction. The result is nearly that of
    a conversion before it.
    """
    if image.mode == "LAB" or (image.mode == "CMYK" and needs_conversion(plain.profile, "CMYK")):
        return image.mode
    return "RGB"


def is_converted(image: Image.Image, mode: str) -> bool:
    """Return whether the image has the mode already, and no transparent colour."""
    return image.mode == mode and "transparency" not in image.info


def converter(image: Image.Image, plain: PlainFile, mode: str) -> Convert:
    """Return the function that converts a part of a loaded image to `mode`.

    Transparent pixels become white.
    """
    if is_converted(image, mode):
        return unchanged
    if image.mode.startswith("I;16"):
        return from_table(table_of(image, plain.depth))
    if image.mode in {"I", "F"}:
        return from_numbers(image, unsigned=image.mode == "I" and plain.unsigned)
    if image.has_transparency_data and not (plain.blank_alpha and is_clear(image)):
        return on_white
    return to_rgb


def unchanged(part: Image.Image) -> Image.Image:
    return part


def to_rgb(part: Image.Image) -> Image.Image:
    return part.convert("RGB")


def on_white(part: Image.Image) -> Image.Image:
    rgba = part.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")


def is_clear(image: Image.Image) -> bool:
    """Return whether no pixel has any opacity."""
    return "A" in image.getbands() and image.getchannel("A").getextrema() == (0, 0)


# ---------------------------------------------------------------- grey of more than 8 bits


def table_of(image: Image.Image, depth: int) -> npt.NDArray[np.uint8]:
    """Return the 8-bit grey of each 16-bit value, for samples of `depth` bits.

    Samples of 10 or 12 bits may be stored as if they had 16. An image that has only such small
    values is nearly black otherwise.
    """
    most = (1 << depth) - 1 if 8 < depth < 16 else FULL_16
    _, top = image.getextrema()
    assert not isinstance(top, tuple)  # as it is for several bands
    if most == FULL_16:
        most = next((low for low in LOW_DEPTHS if 0 < top <= low), FULL_16)
    values = np.arange(FULL_16 + 1, dtype=np.float64) * (255 / most)
    table: npt.NDArray[np.uint8] = np.rint(values.clip(0, 255)).astype(np.uint8)
    return table


def from_table(table: npt.NDArray[np.uint8]) -> Convert:
    def convert(part: Image.Image) -> Image.Image:
        return Image.fromarray(table[np.asarray(part, dtype=np.uint16)]).convert("RGB")

    return convert


def from_numbers(image: Image.Image, *, unsigned: bool) -> Convert:
    """Return the conversion of integers of 32 bits, or of floating-point numbers."""

    def numbers(part: Image.Image) -> Floats:
        values = np.asarray(part)
        return (values.view(np.uint32) if unsigned else values).astype(np.float32)

    extremes = [extremes_of(numbers(image.crop(box))) for box in boxes_of(*image.size)]
    low, factor = scale_of(extremes, whole=image.mode == "I")

    def convert(part: Image.Image) -> Image.Image:
        scaled = (np.nan_to_num(numbers(part), nan=low) - low) * factor
        return Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8)).convert("RGB")

    return convert


def extremes_of(values: Floats) -> tuple[float, float]:
    """Return the smallest and the greatest finite value, and 0 if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.min(initial=0.0)), float(finite.max(initial=0.0))


def scale_of(extremes: list[tuple[float, float]], *, whole: bool) -> tuple[float, float]:
    """Return the value that becomes black, and the factor that scales values to 0…255.

    Values of 0 and above have the smallest depth that contains all of them; of `whole` numbers it
    has at most 32 bits. Values with a sign are stretched.
    """
    low, top = min(low for low, _ in extremes), max(top for _, top in extremes)
    if low < 0:
        return low, 255 / (top - low)
    if top <= 1.0:
        return 0.0, 255.0
    if top <= 255.0:
        return 0.0, 1.0
    if top > FULL_16 and not whole:
        return 0.0, 255 / top
    return 0.0, 255 / next(full for full in FULL if top <= full)


# ---------------------------------------------------------------- profiles, after the reduction


def to_srgb(reduced: Image.Image, profile: bytes) -> Image.Image:
    """Return a reduced image as RGB, by its ICC profile if that matters.

    A profile that cannot be used is ignored.
    """
    source: Profile | None = None
    if reduced.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif profile and needs_conversion(profile, reduced.mode):
        with suppress(OSError):
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
    if source is not None:
        with suppress(ImageCms.PyCMSError):
            return transformed(reduced, source)
    return reduced if reduced.mode == "RGB" else reduced.convert("RGB")


def transformed(image: Image.Image, profile: Profile) -> Image.Image:
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    assert converted is not None  # it is None only when it converts in place
    return converted

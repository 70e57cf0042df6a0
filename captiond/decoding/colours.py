"""Conversion of pixels of all kinds to RGB, part by part, so that no second full copy is needed."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from captiond.decoding.coded_colours import from_coding
from captiond.decoding.deep import DeepImage
from captiond.decoding.files.colour_coding import ColourCoding
from captiond.decoding.files.icc import coding_of_profile
from captiond.decoding.files.plain import PlainFile
from captiond.decoding.files.sample_layout import SampleFormat, SampleLayout
from captiond.decoding.profiles import lab_transform, srgb_transform
from captiond.decoding.unpacking import Samples

WHITE = (255, 255, 255, 255)
# Pillow's modes of grey that have more than 8 bits.
DEEP_MODES = {
    "I;16": (16, SampleFormat.UNSIGNED), "I;16L": (16, SampleFormat.UNSIGNED),
    "I;16B": (16, SampleFormat.UNSIGNED), "I": (32, SampleFormat.SIGNED),
    "F": (32, SampleFormat.FLOAT),
}  # fmt: skip
GREYS = {"1", "L", "LA", "La"}
Convert = Callable[[Image.Image], Image.Image]
Source = Image.Image | DeepImage


def deepened(image: Image.Image) -> Source:
    """Return a loaded image with grey of more than 8 bits as an array, any other one as it is."""
    if image.mode not in DEEP_MODES:
        return image
    bits, format_ = DEEP_MODES[image.mode]
    clear = image.info.get("transparency")
    layout = SampleLayout(
        *image.size, number=1, bits=bits, format=format_,
        clear=clear if isinstance(clear, int) else None,
    )  # fmt: skip
    samples: Samples = np.asarray(image)[..., None]
    if format_ is SampleFormat.UNSIGNED:
        samples = samples.astype(np.uint16, copy=False)
    return DeepImage(samples, layout)


def part_mode(image: Source, plain: PlainFile) -> str:
    """Return the mode that parts are converted to before they are reduced.

    A conversion by a profile takes long, so it follows the reduction. The result is nearly that of
    a conversion before it.
    """
    mode = "L" if image.mode in GREYS else image.mode
    if mode == "LAB" or (mode in {"CMYK", "L"} and srgb_transform(plain.profile, mode)):
        return mode
    return "RGB"


def is_converted(image: Image.Image, mode: str) -> bool:
    """Return whether the image has the mode already, and no transparent colour."""
    return image.mode == mode and "transparency" not in image.info


def converter(image: Source, plain: PlainFile, mode: str) -> Convert:
    """Return the function that converts a part of a loaded image to `mode`.

    Transparent pixels become white.
    """
    if isinstance(image, DeepImage):
        return unchanged if image.mode == mode else to_mode(mode)
    if is_converted(image, mode):
        return unchanged
    if image.has_transparency_data and not (plain.blank_alpha and is_clear(image)):
        return on_white if mode == "RGB" else lambda part: on_white(part).convert(mode)
    return to_mode(mode)


def unchanged(part: Image.Image) -> Image.Image:
    return part


def to_mode(mode: str) -> Convert:
    return lambda part: part.convert(mode)


def on_white(part: Image.Image) -> Image.Image:
    rgba = part.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")


def is_clear(image: Image.Image) -> bool:
    """Return whether no pixel has any opacity."""
    return "A" in image.getbands() and image.getchannel("A").getextrema() == (0, 0)


def to_srgb(reduced: Image.Image, plain: PlainFile) -> Image.Image:
    """Return a reduced image as RGB, by its profile or by its coding if that matters.

    A profile that cannot be used is ignored. HDR goes by its coding: profiles do not say what to do
    with lights that are brighter than white.
    """
    if reduced.mode == "LAB":
        return lab_transform().apply(reduced)
    hdr = hdr_coding(plain)
    if hdr is None and (transform := srgb_transform(plain.profile, reduced.mode)):
        return transform.apply(reduced)
    if reduced.mode == "CMYK":
        return reduced.convert("RGB")
    rgb = reduced if reduced.mode == "RGB" else reduced.convert("RGB")
    if hdr is None and (transform := srgb_transform(plain.profile, "RGB")):
        return transform.apply(rgb)  # grey with a profile for RGB
    coding = hdr or (None if plain.profile else plain.coding)
    return from_coding(rgb, coding) if coding else rgb


def keeps_colours(mode: str, plain: PlainFile) -> bool:
    """Return whether `to_srgb` changes no pixel of an image in this mode, or makes grey RGB."""
    return not (
        mode not in {"RGB", "L"}
        or hdr_coding(plain)
        or any(srgb_transform(plain.profile, each) for each in (mode, "RGB"))
        or (plain.coding and not plain.profile)
    )


def hdr_coding(plain: PlainFile) -> ColourCoding | None:
    """Return the numbers of HDR, of the file or of its profile; None if it is not HDR."""
    codings = (plain.coding, coding_of_profile(plain.profile))
    return next((coding for coding in codings if coding and coding.is_hdr), None)

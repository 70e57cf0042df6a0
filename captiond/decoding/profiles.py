"""Conversions to sRGB by ICC profiles, made by littleCMS through Pillow, and kept."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from captiond.decoding.files.icc import is_for

KEPT = 8  # profiles: most images of a collection have one of a few
TOLERANCE = 4  # of 255; smaller differences from sRGB are not visible
STEPS = np.linspace(0, 255, 6).astype(np.uint8)
Transform = ImageCms.ImageCmsTransform


@lru_cache(KEPT)
def srgb_transform(profile: bytes, mode: str) -> Transform | None:
    """Return the conversion of pixels of a Pillow mode from a profile to sRGB.

    It is None if there is no profile, if the profile is broken or for other pixels, or if it has
    no visible effect.
    """
    if not is_for(profile, mode):
        return None
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(source, srgb(), mode, "RGB")
        return transform if has_effect(transform, mode) else None
    except (OSError, ImageCms.PyCMSError):
        return None


@lru_cache(1)
def lab_transform() -> Transform:
    source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return ImageCms.buildTransform(source, srgb(), "LAB", "RGB")


def srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def has_effect(transform: Transform, mode: str) -> bool:
    """Return whether a conversion changes colours visibly."""
    if mode == "CMYK":
        return True
    grid = np.stack(np.meshgrid(STEPS, STEPS, STEPS), axis=-1).reshape(1, -1, 3)
    colours = Image.fromarray(np.tile(STEPS, (1, 1)) if mode == "L" else grid)
    before = np.asarray(colours.convert("RGB")).astype(int)
    after = np.asarray(transform.apply(colours)).astype(int)
    return bool(np.abs(after - before).max() > TOLERANCE)

"""How viewers show a file: turned upright, its colours as sRGB, over white."""

import os
import shutil
import subprocess
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

Array = npt.NDArray[np.float64]
MAGICK = os.environ.get("MAGICK") or shutil.which("convert-im6.q16") or "magick"
VIPS = os.environ.get("VIPS") or shutil.which("vips") or "vips"


@cache
def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def by_imagemagick(path: Path, *, profile: bool, before: tuple[str, ...] = ()) -> Image.Image:
    """Return what ImageMagick shows. `profile` says that the file has one."""
    srgb = path.with_suffix(".srgb.icc")
    srgb.write_bytes(srgb_profile())
    convert = ("-profile", str(srgb)) if profile else ("-colorspace", "sRGB")
    return shown(
        MAGICK, *before, f"{path}[0]", "-background", "white", "-flatten", "-auto-orient", *convert,
        "-alpha", "off", "-type", "TrueColor", "-depth", "8", "PNG24:-",
    )  # fmt: skip


def by_vips(path: Path) -> Image.Image:
    """Return what libvips shows."""
    upright, coloured = path.with_suffix(".up.v"), path.with_suffix(".out.png")
    run(VIPS, "autorot", str(path), str(upright))
    size = ("10000", "--size", "down", "--export-profile", "srgb")
    run(VIPS, "thumbnail", str(upright), f"{coloured}[bitdepth=8]", *size)
    rgba = Image.open(coloured).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def shown(*command: str) -> Image.Image:
    return Image.open(BytesIO(run(*command))).convert("RGB")


def run(*command: str) -> bytes:
    """Return what a program prints.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


# ---------------------------------------------------------------- colours


def difference(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Return the mean colour difference (CIE 1976 ΔE) of two sRGB pictures of one size."""
    return float(np.linalg.norm(lab(one) - lab(other), axis=-1).mean())


def lab(pixels: npt.NDArray[np.uint8]) -> Array:
    """Return the CIELAB values of sRGB pixels, by IEC 61966-2-1 and CIE 15, with white D65."""
    values = pixels / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    ratio = linear @ to_xyz.T / to_xyz.sum(axis=1)
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=-1)

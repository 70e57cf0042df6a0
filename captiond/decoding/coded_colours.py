"""Conversion to sRGB of colours whose meaning is given by numbers (ITU-T H.273), HDR among them.

HDR has lights that are brighter than white. White is at 203 cd/m2 (ITU-R BT.2408); what is brighter
is compressed into the top of the range, so that it keeps its colour.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from captiond.decoding.files.colour_coding import (
    BT2020,
    DISPLAY_P3,
    GAMMA_22,
    GAMMA_28,
    HLG,
    LINEAR,
    PQ,
    ColourCoding,
)

WHITE_NITS, PQ_NITS, HLG_NITS = 203.0, 10_000.0, 1000.0
KNEE = 0.6  # of white: darker lights stay as they are
BRIGHTEST = 0.999  # share of the pixels that are not brighter than the end of the curve
# To the primaries of sRGB, in linear light.
TO_SRGB = {
    BT2020: (
        (1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187),
    ),
    DISPLAY_P3: (
        (1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979),
    ),
}  # fmt: skip
EXPONENTS = {LINEAR: 1.0, GAMMA_22: 2.2, GAMMA_28: 2.8}
LUMINANCE = np.array((0.2627, 0.6780, 0.0593))  # of BT.2020
Linear = npt.NDArray[np.float64]


def from_coding(image: Image.Image, coding: ColourCoding) -> Image.Image:
    """Return an RGB image as sRGB."""
    if coding.is_srgb:
        return image
    linear = linear_light(np.asarray(image) / 255, coding.transfer)
    if coding.primaries in TO_SRGB:
        linear = linear @ np.array(TO_SRGB[coding.primaries]).T
    if coding.is_hdr:
        linear = compressed(linear)
    return Image.fromarray(np.rint(255 * srgb_values(linear)).astype(np.uint8))


def linear_light(values: Linear, transfer: int) -> Linear:
    """Return the light that values stand for; 1 is white."""
    if transfer == PQ:
        return pq_light(values)
    if transfer == HLG:
        return hlg_light(values)
    if transfer in EXPONENTS:
        return values ** EXPONENTS[transfer]
    light: Linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return light


def pq_light(values: Linear) -> Linear:
    """Return light by SMPTE ST 2084."""
    m1, m2 = 2610 / 16384, 2523 / 32
    c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
    power = values ** (1 / m2)
    light: Linear = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return light * PQ_NITS / WHITE_NITS


def hlg_light(values: Linear) -> Linear:
    """Return light by ARIB STD-B67, on a display of 1000 cd/m2 (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    system = (scene @ LUMINANCE)[..., None] ** 0.2
    light: Linear = scene * system * HLG_NITS / WHITE_NITS
    return light


def compressed(linear: Linear) -> Linear:
    """Return light between 0 and 1: what is brighter than `KNEE` moves below white.

    All three colours are scaled alike, by the curve of Reinhard and others (2002), whose end is the
    brightest light of the image. If that is white, nothing changes.
    """
    peak = linear.max(axis=-1, keepdims=True)
    above = np.maximum(peak - KNEE, 0) / (1 - KNEE)
    most = max(1.0, float(np.quantile(above, BRIGHTEST)))
    target = KNEE + (1 - KNEE) * above * (1 + above / most**2) / (1 + above)
    scale = np.divide(target, peak, out=np.ones_like(peak), where=peak > KNEE)
    reduced: Linear = linear * scale
    return reduced


def srgb_values(linear: Linear) -> Linear:
    clipped = linear.clip(0, 1)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)

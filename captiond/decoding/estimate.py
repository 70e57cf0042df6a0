"""The estimated cost of decoding an image, in seconds of processor time. Pure.

The figures were measured on one core of an Intel Xeon, with images of 1 and 12 megapixels.
They are rough: a queue that shares a resource fairly corrects them by the time that was really
taken.
"""

from dataclasses import dataclass

FIXED_SECONDS = 1e-3  # reading the file, and a resize of a small image
TYPICAL = "jpeg"  # if the type is not known


@dataclass(frozen=True, slots=True)
class DecodingRates:
    """Seconds of processor time for each byte of a file, and for each pixel of its image."""

    byte: float
    pixel: float


RATES = {
    "jpeg": DecodingRates(150e-9, 14e-9),
    "png": DecodingRates(25e-9, 34e-9),
    "webp": DecodingRates(300e-9, 32e-9),
    "gif": DecodingRates(50e-9, 16e-9),
    "bmp": DecodingRates(4e-9, 11e-9),
    "tiff": DecodingRates(7e-9, 23e-9),
    "avif": DecodingRates(250e-9, 28e-9),
    "heif": DecodingRates(250e-9, 28e-9),
    "jpeg2000": DecodingRates(300e-9, 100e-9),
    "jxl": DecodingRates(300e-9, 60e-9),
}


def estimated_cost(
    byte_count: int,
    image_type: str | None = None,
    pixels: int | None = None,
    parts_seconds: float = 0.0,
) -> float:
    """Return the processor time that decoding an image takes, in seconds.

    Before the header is read, only the number of bytes is known, and perhaps the type. Afterwards,
    `pixels` is the number of pixels, and `parts_seconds` is what its scans, strips or chunks add.
    """
    rates = RATES[image_type or TYPICAL]
    whole = byte_count * rates.byte if pixels is None else pixels * rates.pixel
    return FIXED_SECONDS + whole + parts_seconds

"""BMP files that say which bits of a pixel are its colours. Pillow reads the usual masks only."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from captiond.decoding.files.sample_layout import Photometric, SampleLayout

NUMBERS = {16: "<u2", 32: "<u4"}  # how a pixel of so many bits is stored
WHITE = 255
# For each sample the array, the bytes of the rows, Pillow's pixels of them, and a copy.
SAMPLE_COPIES, PIXEL_BYTES = 4, 16  # the others are those of the pixels and of one sample


def memory_of_fields(masks: tuple[int, ...]) -> float:
    """Return the bytes for each pixel."""
    return SAMPLE_COPIES * len(masks) + PIXEL_BYTES


def layout_of_fields(width: int, height: int, masks: tuple[int, ...]) -> SampleLayout:
    """Return the layout of the samples. A fourth mask is that of the opacity."""
    return SampleLayout(
        width, height, number=len(masks), bits=8, photometric=Photometric.RGB, alpha=len(masks) == 4
    )


def rows_of_fields(
    pixels: bytes, size: tuple[int, int], bits: int, masks: tuple[int, ...], *, upward: bool
) -> Iterator[bytes]:
    """Yield one grey image (PGM) whose pixels are the bytes of the rows.

    `upward` says that the last row is the first one in the file.

    Raises:
        ValueError: the file has less data than pixels.
    """
    width, height = size
    stored = -(-width * bits // 32) * 4  # rows are filled to whole words
    whole = np.frombuffer(pixels, np.uint8, stored * height).reshape(height, stored)
    values = whole[:, : width * bits // 8].copy().view(NUMBERS[bits])
    rows = np.empty((height, width, len(masks)), np.uint8)
    for number, mask in enumerate(masks):
        rows[..., number] = field_of(values, mask)
    shown = rows[::-1] if upward else rows
    yield b"P5 %d %d 255\n" % (width * len(masks), height) + shown.tobytes()


def field_of(values: npt.NDArray[np.unsignedinteger], mask: int) -> npt.NDArray[np.uint8]:
    """Return the values of the bits of a mask, 0 to 255. Without a mask, they are 0."""
    lowest = mask & -mask
    if not mask:
        return np.zeros(values.shape, np.uint8)
    most = mask // lowest
    raw = (values & values.dtype.type(mask)) // values.dtype.type(lowest)
    eight: npt.NDArray[np.uint8] = np.rint(raw * np.float32(WHITE / most)).astype(np.uint8)
    return eight

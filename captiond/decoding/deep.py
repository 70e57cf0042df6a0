"""Images whose samples have more than 8 bits, a sign or a floating point, in arrays.

Pillow has modes for few of them, and gives some of the others a wrong meaning. So Pillow only
reads the rows of the file, as bytes.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from captiond.decoding.files.sample_layout import Photometric, SampleFormat, SampleLayout
from captiond.decoding.parts import Box
from captiond.decoding.scales import Floats, Scale, range_of, scale_of, white_of_integers
from captiond.decoding.unpacking import Samples, kind_of, samples_of

CHUNK_SAMPLES = 1 << 18  # that are converted at a time
MODES = {Photometric.RGB: "RGB", Photometric.CMYK: "CMYK"}
MODES |= {Photometric.LAB: "LAB", Photometric.ICC_LAB: "LAB"}
WHITE = np.float32(255)


def read_rows(images: Iterable[Image.Image], layout: SampleLayout) -> Samples:
    """Return the samples [height, width, number] of images whose pixels are bytes of rows.

    There is one image, or one for each plane.
    """
    shape = layout.height, layout.width, layout.number
    if not layout.planes:
        return np.concatenate([read_plane(image, layout) for image in images]).reshape(shape)
    samples = np.empty(shape, kind_of(layout))
    for number, image in enumerate(images):
        samples[..., number] = read_plane(image, layout)
    return samples


def read_plane(image: Image.Image, layout: SampleLayout) -> Samples:
    rows = np.empty((layout.height, layout.row_bytes), np.uint8)
    for top, bottom in spans(0, layout.height, layout.row_bytes):
        rows[top:bottom] = np.asarray(image.crop((0, top, layout.row_bytes, bottom)))
    image.close()
    return samples_of(rows, layout)


def spans(top: int, bottom: int, row: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows of so many samples, which are converted at a time."""
    step = max(1, CHUNK_SAMPLES // max(1, row))
    for first in range(top, bottom, step):
        yield first, min(first + step, bottom)


class DeepImage:
    """An image in an array, whose parts become images of Pillow. Transparent parts are white."""

    def __init__(self, samples: Samples, layout: SampleLayout) -> None:
        self.size = self.width, self.height = layout.width, layout.height
        self.mode = MODES.get(layout.photometric, "L")
        self._samples, self._layout = samples, layout
        self._opaque = self._greatest_opacity() if layout.alpha else 0.0
        self._alpha = self._opaque > 0
        self._low, self._factor = self._scale()

    def crop(self, box: Box) -> Image.Image:
        """Return a part, with 8 bits."""
        left, top, right, bottom = box
        size = right - left, bottom - top
        convert = self._lab if self.mode == "LAB" else self._colours
        parts = [
            convert(self._samples[first:last, left:right]).tobytes()
            for first, last in spans(top, bottom, size[0] * self._layout.number)
        ]
        return Image.frombytes(self.mode, size, b"".join(parts))

    def _colours(self, samples: Samples) -> npt.NDArray[np.uint8]:
        layout = self._layout
        with np.errstate(all="ignore"):  # of values that are no numbers, or huge
            values = (self._numbers(samples[..., : layout.colours]) - self._low) * self._factor
        values = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255)
        if layout.photometric is Photometric.WHITE_IS_ZERO:
            values = WHITE - values
        if self._alpha:
            opacity = self._opacity(samples)
            values = values if layout.premultiplied else values * opacity
            values = (values + WHITE * (1 - opacity)).clip(0, 255)
        if layout.clear is not None:
            values[samples[..., :1] == layout.clear] = WHITE
        rounded: npt.NDArray[np.uint8] = np.rint(values).astype(np.uint8)
        return rounded

    def _lab(self, samples: Samples) -> npt.NDArray[np.uint8]:
        """Return 8 bits of L*, a* and b* as Pillow reads them: a* and b* have a sign."""
        top = samples[..., :3].astype(np.uint32) >> (self._layout.bits - 8)
        if self._layout.photometric is Photometric.ICC_LAB:
            top[..., 1:] ^= 128
        eight: npt.NDArray[np.uint8] = top.astype(np.uint8)
        return eight

    def _numbers(self, samples: Samples) -> Floats:
        if self._layout.format is not SampleFormat.SIGNED:
            with np.errstate(over="ignore"):
                return samples.astype(np.float32)
        sign = 1 << (self._layout.bits - 1)
        return ((samples.astype(np.int64) ^ sign) - sign).astype(np.float32)

    def _opacity(self, samples: Samples) -> Floats:
        layout = self._layout
        raw = samples[..., layout.colours : layout.colours + 1].astype(np.float32)
        opacity: Floats = np.nan_to_num(raw / np.float32(self._opaque), nan=1.0).clip(0, 1)
        return opacity

    def _greatest_opacity(self) -> float:
        """Return the value of an opaque pixel, or 0 if no pixel has any opacity.

        The sample means something else then. Few bits may be stored in many, as those of colours.
        """
        layout = self._layout
        opacity = self._samples[..., layout.colours]
        if not opacity.any():
            return 0.0
        if layout.format is SampleFormat.FLOAT:
            return 1.0
        if layout.format is SampleFormat.SIGNED:
            return (1 << layout.bits) - 1.0
        return white_of_integers(float(opacity.max()), layout)

    def _scale(self) -> Scale:
        """Return the value that becomes black, and the factor that scales values to 0…255."""
        layout = self._layout
        if self.mode == "LAB":
            return np.float32(0), np.float32(1)
        rows = spans(0, layout.height, layout.width * layout.number)
        return scale_of(
            [
                range_of(self._numbers(self._samples[first:last, :, : layout.colours]))
                for first, last in rows
            ],
            layout,
        )

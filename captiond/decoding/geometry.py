"""The pixels that decoding makes of an image, and their size."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
LARGE = 2  # times as many pixels as the model's input has


@dataclass(frozen=True, slots=True)
class Geometry:
    """The size of a model's input in pixels, and Pillow's number of the resampling filter.

    A large image that takes at most `whole_bytes` is not resized, because the device does that.
    """

    height: int
    width: int
    resample: int
    whole_bytes: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3

    @property
    def bytes(self) -> int:
        return 3 * self.height * self.width

    def stays_whole(self, width: int, height: int) -> bool:
        """Return whether an image is not resized: its pixels fit, also between the two passes.

        To resize a small image takes less time than to copy it to the device.
        """
        between = max(height * self.width, self.height * width)
        fits = 3 * max(width * height, between) <= self.whole_bytes
        return fits and width * height >= LARGE * self.height * self.width

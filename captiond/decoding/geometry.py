"""The size of a model's input, and the type of pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

    @property
    def bytes(self) -> int:
        return 3 * self.height * self.width

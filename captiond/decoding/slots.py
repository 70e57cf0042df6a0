"""Pixels in memory that a model process shares with its image decoders.

The memory is an anonymous file (memfd_create(2)). It does not take space of /dev/shm, has no name
that could be left over, and is freed with the last process that has it open.
"""

import mmap
import os
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np

from captiond.decoding.geometry import Geometry, Pixels
from captiond.jobs import Lane


class Slots:
    """`count` slots, each for the pixels of one image, uint8 [height, width, 3].

    The last `imports` of them are for images of imports. A child process that gets it at its start
    shares the memory.
    """

    def __init__(
        self, count: int, geometry: Geometry, *, imports: int = 0, descriptor: int | None = None
    ) -> None:
        shape = (count, *geometry.shape)
        size = int(np.prod(shape))
        self.count, self.imports, self.bytes = count, imports, size
        self.geometry = geometry
        self._descriptor = anonymous_file(size) if descriptor is None else descriptor
        memory = mmap.mmap(self._descriptor, size)
        self._pixels: Pixels = np.frombuffer(memory, dtype=np.uint8).reshape(shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return attach, (self.count, self.geometry, self.imports, DupFd(self._descriptor))

    def lane_of(self, slot: int) -> Lane:
        """Return the lane of a slot: interactive and bulk images have half of the others each."""
        others = self.count - self.imports
        if slot >= others:
            return Lane.IMPORT
        return Lane.BULK if 2 * slot < others else Lane.INTERACTIVE

    def write(self, slot: int, pixels: Pixels) -> None:
        """Write the pixels of one image into a slot."""
        self._pixels[slot] = pixels

    def gather(self, slots: list[int], into: Pixels) -> Pixels:
        """Copy the pixels of some slots to the beginning of `into`, and return that part of it.

        The result is [len(slots), height, width, 3].
        """
        return np.take(self._pixels, slots, axis=0, out=into[: len(slots)], mode="clip")


def anonymous_file(size: int) -> int:
    descriptor = os.memfd_create("captiond-pixels", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return descriptor


def attach(count: int, geometry: Geometry, imports: int, descriptor: Any) -> Slots:
    return Slots(count, geometry, imports=imports, descriptor=descriptor.detach())

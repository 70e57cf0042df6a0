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

    An image has the size that the model takes, or its own if it stays whole.
    """

    def __init__(
        self, count: int, geometry: Geometry, *, imports: int = 0, descriptor: int | None = None
    ) -> None:
        self.count, self.imports, self.geometry = count, imports, geometry
        of_one = max(geometry.bytes, geometry.whole_bytes)
        self.bytes = count * of_one
        self._descriptor = anonymous_file(self.bytes) if descriptor is None else descriptor
        memory = mmap.mmap(self._descriptor, self.bytes)
        self.memory: Pixels = np.frombuffer(memory, dtype=np.uint8).reshape(count, of_one)

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
        height, width, _ = pixels.shape
        self.view(slot, width, height)[:] = pixels

    def has_space(self, width: int, height: int) -> bool:
        """Return whether pixels of this size can be in a slot."""
        is_input = (height, width, 3) == self.geometry.shape
        return is_input or self.geometry.stays_whole(width, height)

    def view(self, slot: int, width: int, height: int) -> Pixels:
        """Return the pixels in a slot, [height, width, 3], without a copy."""
        return self.memory[slot, : 3 * width * height].reshape(height, width, 3)

    def gather(self, slots: list[int], into: Pixels) -> Pixels:
        """Copy the pixels of some slots to the beginning of `into`, and return that part of it.

        All have the size that the model takes. The result is [len(slots), height, width, 3].
        """
        pixels = self.memory[:, : self.geometry.bytes].reshape(-1, *self.geometry.shape)
        return np.take(pixels, slots, axis=0, out=into[: len(slots)], mode="clip")


def anonymous_file(size: int) -> int:
    descriptor = os.memfd_create("captiond-pixels", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return descriptor


def attach(count: int, geometry: Geometry, imports: int, descriptor: Any) -> Slots:
    return Slots(count, geometry, imports=imports, descriptor=descriptor.detach())

"""Brings the pixels of a batch from the slots that decoders have filled to the model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Protocol

import structlog
import torch

from captiond.captioners.devices import BatchPixels, pin_memory
from captiond.captioners.fusion import resizer_for
from captiond.captioners.memory import raising_out_of_memory
from captiond.captioners.protocol import Captioner
from captiond.decoding.geometry import LARGE, Pixels
from captiond.decoding.slots import Slots
from captiond.errors import OutOfMemory

PAGE = 4096
WHOLE_BYTES = 3 * 1536 * 1024  # of the largest image that a GPU resizes: larger ones are rarer
SLOTS_AT_ONCE = 16  # whose memory is pinned when the first of them is used
log = structlog.get_logger()
FilledSlot = tuple[int, tuple[int, int]]  # its number, and the width and height of the image


class Gathering(Protocol):
    """Gathers the pixels of a batch. `slots` is where decoders put them."""

    @property
    def slots(self) -> Slots: ...

    async def gather(self, filled: Sequence[FilledSlot]) -> BatchPixels:
        """Return uint8 [images, height, width, 3], which the next batch overwrites.

        When it returns, the slots are not needed any more.
        """


class HostGathering:
    """Copies pixels to a buffer of the host. `buffer` has space for the largest batch."""

    def __init__(self, slots: Slots, buffer: Pixels) -> None:
        self.slots = slots
        self._buffer = buffer

    async def gather(self, filled: Sequence[FilledSlot]) -> BatchPixels:
        return self.slots.gather([slot for slot, _ in filled], self._buffer)


class DeviceGathering:
    """Copies images to a GPU, which resizes them, in the thread of the model."""

    def __init__(self, slots: Slots, resizer: "Resizer", thread: Executor) -> None:
        self.slots = slots
        self._resizer, self._thread = resizer, thread
        self._pinned = [False] * (-(-slots.count // SLOTS_AT_ONCE))
        self._can_pin = True

    async def gather(self, filled: Sequence[FilledSlot]) -> BatchPixels:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._resized, filled)

    def _resized(self, filled: Sequence[FilledSlot]) -> torch.Tensor:
        for slot, _ in filled:
            self._pin(slot // SLOTS_AT_ONCE)
        images = [self.slots.view(slot, *size) for slot, size in filled]
        try:
            with raising_out_of_memory():
                return self._resizer(images)
        except OutOfMemory as error:  # memory that torch kept for the model is free now
            log.warning("out_of_memory", images=len(images), reason=str(error))
        return self._resizer(images)

    def _pin(self, group: int) -> None:
        """Pin the memory of a group of slots, unless it is: a GPU copies from it by itself.

        Slots that were freed last are used first, so most are never used, and take no memory.
        """
        if self._pinned[group] or not self._can_pin:
            return
        self._pinned[group] = True
        first = group * SLOTS_AT_ONCE
        self._can_pin = pin_memory(self.slots.memory[first : first + SLOTS_AT_ONCE])


class Resizer(Protocol):
    """Resizes images, [height, width, 3] each, on a device (`gpu_resize.GpuResizer`)."""

    def __call__(self, images: Sequence[Pixels]) -> torch.Tensor: ...


def make_gathering(
    captioner: Captioner, batch: Pixels, count: int, imports: int, thread: Executor, *, memory: int
) -> Gathering:
    """Return how batches are gathered; `batch` is a buffer for the largest. For its thread.

    A GPU resizes images if it computes what Pillow does, and if `memory` is enough for `count`
    images that it should resize.
    """
    geometry = captioner.geometry
    whole = min(WHOLE_BYTES, memory // count) // PAGE * PAGE
    if captioner.device.type == "cuda" and whole >= LARGE * geometry.bytes:
        larger = replace(geometry, whole_bytes=whole)
        if resizer := resizer_for(captioner.device, larger, len(batch)):
            return DeviceGathering(Slots(count, larger, imports=imports), resizer, thread)
    return HostGathering(Slots(count, geometry, imports=imports), batch)

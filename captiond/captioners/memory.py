"""Recognizes the errors of a device that mean that it is out of memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from captiond.captioners.devices import BatchPixels
from captiond.errors import OutOfMemory
from captiond.jobs import Caption, Generation
from captiond.vocabulary import Vocabulary

CaptionBatch = Callable[[BatchPixels, Generation, Vocabulary | None], list[tuple[Caption, ...]]]
# Messages of a RuntimeError that has no class of its own: from the allocator of a CPU, and from a
# driver that has no memory for something other than a tensor.
OUT_OF_MEMORY_MESSAGES = ("DefaultCPUAllocator", "CUDA error: out of memory")


def within_memory(caption: CaptionBatch) -> CaptionBatch:
    """Return `caption`, changed to raise OutOfMemory if the device has too little memory."""

    def guarded(
        pixels: BatchPixels, generation: Generation, vocabulary: Vocabulary | None
    ) -> list[tuple[Caption, ...]]:
        with raising_out_of_memory():
            return caption(pixels, generation, vocabulary)

    return guarded


@contextmanager
def raising_out_of_memory() -> Iterator[None]:
    """Raise OutOfMemory in place of every error that means it. Other errors are not changed."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        release_cached_memory()
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        # guard: device-error-ends-process
        if not any(message in str(error) for message in OUT_OF_MEMORY_MESSAGES):
            raise
        release_cached_memory()
        raise OutOfMemory(str(error)) from error


def device_memory(device: torch.device) -> dict[str, Callable[[], float]]:
    """Return how the memory of a device is read, in bytes, by its states. A CPU has none.

    The event loop reads it, while the model's thread may be capturing a CUDA graph. These numbers
    are torch's own. A question to the driver could break the capture.
    """
    if device.type != "cuda":
        return {}
    return {
        "allocated": lambda: torch.cuda.memory_allocated(device),
        "reserved": lambda: torch.cuda.memory_reserved(device),
    }


def release_cached_memory() -> None:
    """Free the unused memory that torch's allocator keeps, before a smaller batch runs."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

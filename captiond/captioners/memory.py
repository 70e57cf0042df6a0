"""Out of memory, told apart from every other error of the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from captiond.decoding.decode import Pixels
from captiond.errors import OutOfMemory
from captiond.jobs import Caption, Generation

CaptionBatch = Callable[[Pixels, Generation], list[tuple[Caption, ...]]]
# What a RuntimeError says that has no class of its own: a CPU's, and a driver's who has no memory
# for what is not a tensor.
TOLD_BY = ("DefaultCPUAllocator", "CUDA error: out of memory")


def within_memory(caption: CaptionBatch) -> CaptionBatch:
    """`caption`, raising OutOfMemory where the device has not enough; other errors go through."""

    def guarded(pixels: Pixels, generation: Generation) -> list[tuple[Caption, ...]]:
        with told_as_out_of_memory():
            return caption(pixels, generation)

    return guarded


@contextmanager
def told_as_out_of_memory() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        release()
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if not any(told in str(error) for told in TOLD_BY):
            raise
        release()
        raise OutOfMemory(str(error)) from error


def release() -> None:
    """Give what the allocator has kept back to the device, before a smaller batch is tried."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

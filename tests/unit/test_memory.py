"""Which errors are told as out of memory, to be met with a smaller batch."""

import pytest
import torch

from captiond.captioners.memory import told_as_out_of_memory
from captiond.errors import OutOfMemory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_of_device_and_host(error: Exception) -> None:
    with pytest.raises(OutOfMemory), told_as_out_of_memory():
        raise error


def test_any_other_error_of_the_device_goes_through() -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal"), told_as_out_of_memory():
        raise error

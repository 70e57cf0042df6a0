"""Which errors mean out of memory, so that a smaller batch is tried."""

import pytest
import torch

from captiond.captioners.memory import device_memory, raising_out_of_memory
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
def test_errors_of_device_and_host(error: Exception) -> None:
    with pytest.raises(OutOfMemory), raising_out_of_memory():
        raise error


def test_another_error_of_the_device_is_not_changed() -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal"), raising_out_of_memory():
        raise error


def test_the_memory_of_a_gpu_has_four_states_and_a_cpu_has_none() -> None:
    assert device_memory(torch.device("cpu")) == {}
    assert [*device_memory(torch.device("cuda:1"))] == ["allocated", "reserved"]

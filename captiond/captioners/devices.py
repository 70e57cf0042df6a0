"""Devices: which one a setting names, in which precision it computes, and buffers for pixels."""

from contextlib import suppress
from typing import Any

import structlog
import torch
from torch import Tensor

from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import ModelBroken
from captiond.settings.config import Precision, PrecisionSetting

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.bfloat16,  # of everything except the products of images; see `fp8`
    "int8": torch.float32,  # of everything except the linear layers; see `dtype_of`
}
BatchPixels = Pixels | Tensor  # of a batch: on the host, or on the device already
log = structlog.get_logger()
FP8_CAPABILITY = (8, 9)  # the first compute capability with products in FP8


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type of the activations in a precision.

    In int8 it is bf16 if the processor multiplies bf16 in AMX tiles. There attention in fp32 would
    take longer than all products of integers.
    """
    if precision == "int8" and device.type == "cpu" and has_amx():
        return torch.bfloat16
    return DTYPES[precision]


def has_amx() -> bool:
    """Return whether the processor has AMX instructions for both int8 and bf16."""
    found = torch.cpu.get_capabilities()
    return all(found.get(name, False) for name in ("amx_tile", "amx_int8", "amx_bf16"))


def pick_device(setting: str) -> torch.device:
    """Return the device that a setting names. `auto` is the first GPU, or the CPU without one.

    Raises:
        ModelBroken: the setting names a GPU that torch cannot use here.
    """
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(setting)
    if device.type != "cuda":
        return device
    number, count = device.index or 0, torch.cuda.device_count()
    if number >= count:
        raise ModelBroken(
            f"[model] device = {setting}: there are {count} GPUs here that torch can use; set it "
            "to cpu or auto, or check the driver"
        )
    return torch.device("cuda", number)


def pick_precision(setting: PrecisionSetting, device: torch.device) -> Precision:
    """Return the precision that a setting names. `auto` is the fastest safe one of the device.

    Raises:
        ModelBroken: the device cannot compute in this precision.
    """
    if setting == "int8" and device.type != "cpu":
        raise ModelBroken("[model] precision = int8 is for CPUs; a GPU takes bf16 or fp16")
    if setting == "fp8" and not has_fp8(device):
        raise ModelBroken(
            "[model] precision = fp8 is for GPUs that multiply FP8, from Ada and Hopper on; "
            "set it to auto"
        )
    if setting != "auto":
        return setting
    if device.type == "cpu":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def has_fp8(device: torch.device) -> bool:
    """Return whether a device multiplies FP8."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FP8_CAPABILITY


def set_up_cuda(device: torch.device) -> None:
    """Make a GPU this thread's device, and do not use cuDNN for attention.

    cuDNN makes a plan for every number of images and tokens. Each plan takes about 0.4 s (measured
    by others on Hopper).
    """
    torch.cuda.set_device(device)
    torch.backends.cuda.enable_cudnn_sdp(False)


def allocate_pixels(images: int, geometry: Geometry, device: torch.device) -> Pixels:
    """Return a buffer for the pixels of a batch, uint8 [images, height, width, 3], all zero.

    For a GPU the buffer is pinned: the GPU then copies from it without the CPU.
    """
    shape = (images, *geometry.shape)
    pinned = device.type == "cuda"
    buffer: Pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned).numpy()
    return buffer


def on_device(pixels: BatchPixels, device: torch.device) -> Tensor:
    """Copy pixels to a device, unless they are there.

    The host does not wait if they are in a pinned buffer.
    """
    if isinstance(pixels, Tensor):
        return pixels
    return torch.from_numpy(pixels).to(device, non_blocking=True)


def pin_memory(memory: Pixels) -> bool:
    """Let a GPU copy from memory by itself. Return whether it can; copies take longer if not."""
    runtime: Any = torch.cuda
    if code := int(runtime.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)):
        log.warning("memory_not_pinned", bytes=memory.nbytes, code=code)
        take_noted_error()
    return not code


def take_noted_error() -> None:
    """Let torch raise the error of a failed call of CUDA's runtime, and ignore it.

    The runtime notes the error for this thread. torch would raise it after the next kernel, which
    may be one of the model.
    """
    with suppress(RuntimeError):
        torch.ones(1, device="cuda")

"""Which kernels of our own a device gets: those of `kernels`, which Triton compiles for a GPU."""

from typing import TYPE_CHECKING, Protocol

import structlog
import torch
from torch import Tensor

from captiond.decoding.geometry import Geometry

if TYPE_CHECKING:
    from captiond.captioners.gpu_resize import GpuResizer

HALF = {torch.bfloat16, torch.float16}
log = structlog.get_logger()


class Kernels(Protocol):
    """Operations that take one kernel instead of several; `kernels` explains them."""

    def layer_norm(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        dtype: torch.dtype | None = None,
    ) -> Tensor: ...

    def add_layer_norm(
        self,
        x: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor]: ...

    def layer_norm_of_sum(
        self, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor: ...

    def attend_newest(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cache: tuple[Tensor, Tensor],
        position: Tensor,
    ) -> Tensor: ...


def kernels_for(dtype: torch.dtype, device: torch.device) -> Kernels | None:
    """Return the kernels for a GPU in half precision. None: torch's own operations are used.

    In fp32 they are not used, because their rounding differs from that of torch. Triton needs a C
    compiler on the machine. If Triton does not work, a log line says why.
    """
    if device.type != "cuda" or dtype not in HALF:
        return None
    try:
        from captiond.captioners import kernels

        ones = torch.ones(1, 64, dtype=dtype, device=device)
        kernels.layer_norm(ones, ones[0], ones[0], 1e-5)
    except Exception as error:  # noqa: BLE001 - Triton raises whatever a missing compiler leads to
        log.warning("no_triton_kernels", reason=str(error))
        return None
    return kernels


def resizer_for(device: torch.device, geometry: Geometry, images: int) -> "GpuResizer | None":
    """Return what resizes batches of so many images on a GPU. None: the image decoders do it.

    It is compared with Pillow first. If it does not do the same, a log line says why.
    """
    try:
        from captiond.captioners import gpu_resize

        resizer = gpu_resize.GpuResizer(device, geometry, images)
        gpu_resize.check(resizer)
    except Exception as error:  # noqa: BLE001 - a lack of memory, of a compiler, or of the filter
        log.warning("no_gpu_resize", reason=f"{type(error).__name__}: {error}")
        return None
    return resizer

"""Layer normalization, alone or together with the addition of a residual before it."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from captiond.captioners.fusion import Kernels
from captiond.captioners.linear import Linear


class Norm(Protocol):
    """Normalizes the last dimension."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def of_sum(self, linear: Linear, x: Tensor, residual: Tensor) -> Tensor:
        """Return linear(x) + residual, normalized."""

    def with_sum(self, linear: Linear, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Return linear(x) + residual, and the same normalized."""


class MakeNorm(Protocol):
    """Makes the normalization of a module. Its results are a `dtype`, or else as its inputs."""

    def __call__(self, module: nn.LayerNorm, dtype: torch.dtype | None = None) -> Norm: ...


def norms(kernels: Kernels | None) -> MakeNorm:
    """Return the kind of normalization that uses these kernels, or torch's for none."""
    return PlainNorm if kernels is None else partial(FusedNorm, kernels=kernels)


@dataclass(frozen=True, slots=True)
class NormWeights:
    """The weights of a module, copied: views would keep the whole mapped file in memory."""

    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, module: nn.LayerNorm) -> "NormWeights":
        return cls(module.weight.detach().clone(), module.bias.detach().clone(), module.eps)


class PlainNorm:
    """Normalization by torch. The linear layer adds the residual, in the same pass if it can."""

    def __init__(self, module: nn.LayerNorm, dtype: torch.dtype | None = None) -> None:
        self._weights, self._dtype = NormWeights.of(module), dtype

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias, eps = self._weights.weight, self._weights.bias, self._weights.eps
        normalized = layer_norm(x, weight.shape, weight, bias, eps)
        return normalized if self._dtype is None else normalized.to(self._dtype)

    def of_sum(self, linear: Linear, x: Tensor, residual: Tensor) -> Tensor:
        return self(linear(x, residual=residual))

    def with_sum(self, linear: Linear, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        total = linear(x, residual=residual)
        return total, self(total)


class FusedNorm:
    """Normalization by a kernel that also adds the residual."""

    def __init__(
        self, module: nn.LayerNorm, dtype: torch.dtype | None = None, *, kernels: Kernels
    ) -> None:
        weights = NormWeights.of(module)
        self._weights = weights.weight, weights.bias, weights.eps
        self._kernels, self._dtype = kernels, dtype

    def __call__(self, x: Tensor) -> Tensor:
        return self._kernels.layer_norm(x, *self._weights, self._dtype)

    def of_sum(self, linear: Linear, x: Tensor, residual: Tensor) -> Tensor:
        return self._kernels.layer_norm_of_sum(linear(x), residual, *self._weights)

    def with_sum(self, linear: Linear, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return self._kernels.add_layer_norm(linear(x), residual, *self._weights, self._dtype)

"""Linear layers whose weights are laid out once, in the order that the device multiplies fastest.

On a CPU the layers call oneDNN's kernels. torch itself uses those only in compiled graphs; its
eager fp32 product calls another library, which takes two to three times as long on some processors
(docs/benchmarks.md). GELU and the addition of a residual happen in the same pass.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from captiond.captioners import mkl
from captiond.captioners.choices import LinearWay
from captiond.config import Precision

Activation = Literal["none", "gelu"]


class Linear(Protocol):
    """y = activation(x W + b) + residual, over the last dimension of x."""

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor: ...


class PlainLinear:
    """A linear layer by torch's own product."""

    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation = "none") -> None:
        self._weight, self._bias, self._activation = weight, bias, activation

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = linear(x, self._weight, self._bias)
        if self._activation == "gelu":
            y = gelu(y)
        return y if residual is None else y + residual

    def write(self, x: Tensor, out: Tensor) -> None:
        """Write the result for rows x [rows, in] to `out` [rows, out]; there is no activation."""
        torch.addmm(self._bias, x, self._weight.t(), out=out)


class PackedLinear:
    """A linear layer by oneDNN, in the precision of the weight [out, in]."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, activation: Activation = "none"
    ) -> None:
        ops = torch.ops.mkldnn
        self._weight = ops._reorder_linear_weight(weight)
        self._bias, self._activation = bias, activation
        self._unary, self._binary = ops._linear_pointwise, ops._linear_pointwise.binary

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y: Tensor
        if residual is None:
            y = self._unary(x, self._weight, self._bias, self._activation, [], "none")
        else:
            y = self._binary(x, residual, self._weight, self._bias, "add")
        return y


class Int8Linear:
    """A linear layer by oneDNN in 8-bit integers.

    Each column of the weight and each row of x has a scale of its own, so the result of a row does
    not depend on the rest of the batch.
    """

    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation = "none") -> None:
        scale = weight.float().abs().amax(1).clamp(min=1e-12) / 127
        integers = torch.round(weight.float() / scale[:, None]).to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(integers, None)
        self._scale, self._zero = scale, torch.zeros(len(scale), dtype=torch.int64)
        self._bias, self._activation = bias.float(), activation
        self._product = torch.ops.onednn.qlinear_pointwise

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        integers, rows = self.integers(x)
        y = torch.addcmul(self._bias, self.product(integers), rows)
        if self._activation == "gelu":
            y = gelu(y)
        return y if residual is None else y.add_(residual)

    def integers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x as integers around 128, uint8, and the scale of each row."""
        rows = x.abs().amax(-1, keepdim=True).clamp_(min=1e-12).div_(127)
        return (x / rows).round_().add_(128).to(torch.uint8), rows

    def product(self, integers: Tensor) -> Tensor:
        y: Tensor = self._product(
            integers, 1.0, 128, self._weight, self._scale, self._zero,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return y


MakeLinear = Callable[[Tensor, Tensor, Activation], Linear]  # of weight, bias and activation


def linears(precision: Precision, device: torch.device, way: LinearWay = "onednn") -> MakeLinear:
    """Return the kind of linear layer that was chosen, or else the usual one of the device."""
    if device.type != "cpu" or not has_onednn():
        return PlainLinear
    if way == "mkl" and precision == "fp32" and mkl.usable():
        return mkl.MklLinear
    match precision:
        case "int8":
            return Int8Linear
        case "fp32" | "bf16":
            return PackedLinear
        case "fp16":
            return PlainLinear


def linear_of(make: MakeLinear, *layers: nn.Linear, activation: Activation = "none") -> Linear:
    """Return one layer for several that take the same input; their outputs are concatenated.

    The weights are removed from their modules, so that they are in memory only once.
    """
    weight = torch.cat([layer.weight.detach() for layer in layers])
    bias = torch.cat([layer.bias.detach() for layer in layers])
    for layer in layers:
        del layer.weight, layer.bias
    return make(weight, bias, activation)


def write(linear_: Linear, x: Tensor, out: Tensor) -> None:
    """Write the result of a layer without activation for rows x [rows, in] to `out` [rows, out]."""
    if isinstance(linear_, PlainLinear):
        linear_.write(x, out)
    else:
        out.copy_(linear_(x))


def unquantized(make: MakeLinear) -> MakeLinear:
    """Return the kind of layer for inputs that need all of their precision."""
    return PackedLinear if make is Int8Linear else make


def has_onednn() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return A Bᵀ of two matrices by oneDNN. The rows or the columns of each must be dense."""
    ab: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "none")
    return ab

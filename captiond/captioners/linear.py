"""Linear layers whose weights are laid out once, in the order that the device multiplies fastest.

On a CPU the layers call oneDNN's kernels. torch itself uses those only in compiled graphs; its
eager fp32 product calls another library, which takes two to three times as long on some processors
(docs/benchmarks.md). GELU and the addition of a residual happen in the same pass.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from captiond.captioners import mkl
from captiond.captioners.choices import LinearWay
from captiond.settings.config import Precision

Activation = Literal["none", "gelu"]
Inputs = Literal["any", "normalized", "gelu"]  # which layer the inputs of a linear layer are from

SMALLEST = 1e-12  # so that a row of zeros has a scale
LARGEST, ZERO = 127, 128  # of 8-bit integers: the largest, and the uint8 that stands for 0
LARGEST_WITHOUT_VNNI = 64  # of a weight, see `largest_weight`
GELU_ZERO = 32  # the uint8 that stands for 0 in results of GELU
MANY_ROWS = 64  # of one image: fewer have a scale each in int8, and stay in bf16 in `WidenedLinear`
ROUNDING = 2.0**23  # see `integers_of`
ROUNDING_ZERO = torch.tensor(ROUNDING + ZERO)


class Linear(Protocol):
    """y = activation(x W + b) + residual, over the last dimension of x."""

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor: ...


class PlainLinear:
    """A linear layer by torch's own product."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        activation: Activation = "none",
        inputs: Inputs = "any",
    ) -> None:
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
        self,
        weight: Tensor,
        bias: Tensor | None,
        activation: Activation = "none",
        inputs: Inputs = "any",
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


class WidenedLinear:
    """A linear layer with weights in bf16 that multiplies the rows of images in fp32.

    It is for processors that cannot multiply bf16. There torch's own product takes five times as
    long as one in fp32. For the few rows of texts it takes no longer: reading the weight takes most
    of the time.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        activation: Activation = "none",
        inputs: Inputs = "any",
    ) -> None:
        self._weight, self._bias, self._activation = weight, bias, activation
        self._plain = PlainLinear(weight, bias, activation)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if x.numel() < MANY_ROWS * x.shape[-1]:
            return self._plain(x, residual)
        widened = PlainLinear(self._weight.float(), self._bias.float(), self._activation)
        return widened(x.float(), residual).to(x.dtype)


class Int8Linear:
    """A linear layer by oneDNN in 8-bit integers, between activations in fp32 or bf16.

    Each column of the weight has a scale of its own. The inputs of one image never share a scale
    with those of another image, so a caption does not depend on the rest of the batch:

    - The patches of an image that a layer normalization has just scaled alike share one scale. The
      product then applies scale, bias, GELU and residual itself.
    - All other rows, such as those of different texts, have a scale each, which is applied after
      the product.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        activation: Activation = "none",
        inputs: Inputs = "any",
    ) -> None:
        scale = weight.float().abs().amax(1).clamp(min=SMALLEST) / largest_weight()
        integers = torch.round(weight.float() / scale[:, None]).to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(integers, None)
        self._scale, self._zero = scale, torch.zeros(len(scale), dtype=torch.int64)
        self._bias, self._activation = bias.float(), activation
        self._shares_scale = inputs == "normalized"
        self._quantize = quantize_gelu if inputs == "gelu" else quantize_rows
        self._unary = torch.ops.onednn.qlinear_pointwise
        self._binary = torch.ops.onednn.qlinear_pointwise.binary

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if not self._shares_scale or x.dim() < 3 or x.shape[-2] < MANY_ROWS:
            return self._by_rows(x, residual)
        if len(x) == 1:
            return self._as_one(x, residual)
        residuals = [None] * len(x) if residual is None else torch.split(residual, 1)
        pairs = zip(torch.split(x, 1), residuals, strict=True)
        return torch.cat([self._as_one(image, added) for image, added in pairs])

    def _as_one(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Return the result for rows that share one scale; results of GELU are in fp32."""
        integers, scale = quantize_all(x)
        dtype = torch.float32 if self._activation == "gelu" else x.dtype
        inputs = integers, scale, ZERO, self._weight, self._scale, self._zero
        arguments: list[float] = []
        activation = self._activation, arguments, "none"
        y: Tensor
        if residual is None:
            y = self._unary(*inputs, self._bias, 1.0, 0, dtype, *activation)
        else:
            y = self._binary(
                *inputs, residual, self._bias, 1.0, 0, dtype, 1.0, 0, "add", 1.0, *activation
            )
        return y

    def _by_rows(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Return the result for rows that have a scale each."""
        rows = self._quantize(x)
        y = self.product(rows.integers, rows.zero)
        torch.addcmul(self._bias, y, rows.scales, out=y)
        if self._activation == "gelu":
            y = gelu(y)
        return y.to(x.dtype) if residual is None else y.add_(residual).to(residual.dtype)

    def product(self, integers: Tensor, zero: int) -> Tensor:
        """Return the product in fp32, without the scales of the rows and without the bias."""
        y: Tensor = self._unary(
            integers, 1.0, zero, self._weight, self._scale, self._zero,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return y


@cache
def largest_weight() -> int:
    """Return the largest integer that a weight may have, for the sums of products to be exact.

    Processors without VNNI add two products of uint8 and int8 in an int16, and give its largest
    value for a sum that does not fit. oneDNN leaves that to its callers: see "Nuances of int8
    Computations" in its documentation.
    """
    weight = torch.full((ZERO, MANY_ROWS), LARGEST, dtype=torch.int8)
    greatest = torch.full((MANY_ROWS, MANY_ROWS), 255, dtype=torch.uint8)
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    scales, zeros = torch.ones(ZERO), torch.zeros(ZERO, dtype=torch.int64)
    sums = torch.ops.onednn.qlinear_pointwise(
        greatest, 1.0, 0, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    exact = bool((sums == 255 * LARGEST * MANY_ROWS).all())
    return LARGEST if exact else LARGEST_WITHOUT_VNNI


@dataclass(frozen=True, slots=True)
class Int8Rows:
    """Rows as integers, uint8 [..., width]: x = (integers - zero) * scales."""

    integers: Tensor
    zero: int
    scales: Tensor  # [..., 1]


def quantize_rows(x: Tensor) -> Int8Rows:
    """Return x with a scale for each row."""
    scales = x.abs().amax(-1, keepdim=True).float().clamp_(min=SMALLEST).div_(LARGEST)
    return Int8Rows(integers_of((x / scales).add_(ROUNDING + ZERO)), ZERO, scales)


def quantize_gelu(x: Tensor) -> Int8Rows:
    """Return x, which is a result of GELU, with a scale for each row. Its memory is used.

    GELU has no value below -0.17, so most of the integers are for the values above zero.
    """
    x = x.float()
    scales = x.amax(-1, keepdim=True).div_(255 - GELU_ZERO).clamp_(min=0.17 / GELU_ZERO)
    return Int8Rows(integers_of(x.div_(scales).add_(ROUNDING + GELU_ZERO)), GELU_ZERO, scales)


def quantize_probabilities(x: Tensor) -> Int8Rows:
    """Return x, which has no negative values, with a scale for each row. Its memory is used."""
    scales = x.amax(-1, keepdim=True).div_(255)
    return Int8Rows(integers_of(x.div_(scales).add_(ROUNDING)), 0, scales)


def quantize_all(x: Tensor) -> tuple[Tensor, float]:
    """Return x as integers around `ZERO`, uint8, with one scale for all rows."""
    least, greatest = torch.aminmax(x)
    scale = max(-least.item(), greatest.item(), SMALLEST) / LARGEST
    return integers_of(torch.add(ROUNDING_ZERO, x.float(), alpha=1 / scale)), scale


def integers_of(x: Tensor) -> Tensor:
    """Return x as uint8: fp32 numbers from 0 to 255, to which `ROUNDING` has been added.

    The sum of 2²³ and a smaller number has no fraction in fp32. So the addition rounds, and the
    integer is in the lowest bits. torch's conversion of fp32 to uint8 takes four times as long.
    """
    return x.view(torch.int32).to(torch.uint8)


class MakeLinear(Protocol):
    """Makes a linear layer of a weight [out, in] and a bias [out]."""

    def __call__(
        self, weight: Tensor, bias: Tensor, activation: Activation = ..., inputs: Inputs = ...
    ) -> Linear: ...


def linears(precision: Precision, device: torch.device, way: LinearWay = "onednn") -> MakeLinear:
    """Return the kind of linear layer that was chosen, or else the usual one of the device."""
    if device.type != "cpu" or not has_onednn(torch.float32):
        return PlainLinear
    if way == "mkl" and precision == "fp32" and mkl.usable():
        return mkl.MklLinear
    match precision:
        case "int8":
            return Int8Linear
        case "fp32":
            return PackedLinear
        case "bf16":
            return PackedLinear if has_onednn(torch.bfloat16) else WidenedLinear
        case "fp16" | "fp8":
            return PlainLinear


def linear_of(
    make: MakeLinear,
    *layers: nn.Linear,
    activation: Activation = "none",
    inputs: Inputs = "any",
) -> Linear:
    """Return one layer for several that take the same input; their outputs are concatenated.

    The weights are removed from their modules, so that they are in memory only once.
    """
    weight = torch.cat([layer.weight.detach() for layer in layers])
    bias = torch.cat([layer.bias.detach() for layer in layers])
    for layer in layers:
        del layer.weight, layer.bias
    return make(weight, bias, activation, inputs)


def write(linear_: Linear, x: Tensor, out: Tensor) -> None:
    """Write the result of a layer without activation for rows x [rows, in] to `out` [rows, out]."""
    if isinstance(linear_, PlainLinear):
        linear_.write(x, out)
    else:
        out.copy_(linear_(x))


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Return whether oneDNN multiplies matrices of a type here, other than fp16.

    In bf16 it needs a processor with AVX-512 or with AVX-NE-CONVERT.
    """
    if dtype == torch.float16 or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    matrix = torch.ones(MANY_ROWS, MANY_ROWS, dtype=dtype)
    try:
        product(matrix, torch.ops.mkldnn._reorder_linear_weight(matrix))
    except RuntimeError:
        return False
    return True


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return A Bᵀ of two matrices by oneDNN. The rows or the columns of each must be dense."""
    ab: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "none")
    return ab

"""Linear layers, keys and values in FP8, for GPUs that multiply it: Ada, Hopper and later ones.

The format is e4m3 (Micikevicius et al., "FP8 formats for deep learning", 2022): 3 bits of mantissa,
normal numbers from 2⁻⁶ to 448. A number keeps its precision over that whole range, so one fixed
factor for each kind of input is enough. Nothing is measured while an image is captioned, and a
caption does not depend on the rest of the batch.
"""

from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import ScalingType, gelu, scaled_dot_product_attention, scaled_mm

from captiond.captioners.linear import SMALLEST, Activation, Inputs

FP8: Final = torch.float8_e4m3fn
GREATEST: Final = 448.0
Kind = Literal["any", "normalized", "gelu", "keys"]
# What numbers are multiplied by before they are stored; larger ones than 448 / factor are cut off.
FACTORS: dict[Kind, float] = {
    "any": 8.0,
    "normalized": 1.0,  # `scale_norm` has multiplied the weights of the norm
    "gelu": 4.0,
    "keys": 8.0,  # and values
}


class Fp8Linear:
    """A linear layer whose weight and inputs are FP8. It adds in fp32.

    Inputs may be FP8 already: those of a norm that stores FP8, and those of a layer with GELU. The
    result of a layer with GELU is FP8, that of another has the type of the bias.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        activation: Activation = "none",
        inputs: Inputs = "any",
    ) -> None:
        scale = weight.float().abs().amax().clamp(min=SMALLEST) / GREATEST
        self._weight = (weight.float() / scale).to(FP8).t()  # [in, out], its columns dense
        self._bias, self._activation = bias, activation
        self._inputs = inputs
        self._scales = torch.full_like(scale, 1 / FACTORS[inputs]), scale

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        rows = (x if x.dtype == FP8 else to_fp8(x, self._inputs)).flatten(0, -2)
        y = scaled_mm(
            rows,
            self._weight,
            self._scales[0],
            ScalingType.TensorWise,
            self._scales[1],
            ScalingType.TensorWise,
            bias=self._bias,
            output_dtype=self._bias.dtype,
            use_fast_accum=rows.is_cuda,
        ).view(*x.shape[:-1], -1)
        if self._activation == "gelu":
            return to_fp8(y, "gelu", activation="gelu")
        return y if residual is None else y + residual


def to_fp8(
    x: Tensor, kind: Kind, *, activation: Activation = "none", out: Tensor | None = None
) -> Tensor:
    """Return activation(x), multiplied by the factor of its kind and cut off at 448, as FP8.

    The result is written to `out`, if it is given, which is dense and as large.
    """
    if out is None:
        out = torch.empty_like(x, dtype=FP8, memory_format=torch.contiguous_format)
    if x.is_cuda:
        from captiond.captioners import kernels

        kernels.to_fp8(x.contiguous(), out, FACTORS[kind], activation)
    else:
        x = gelu(x) if activation == "gelu" else x
        out.copy_((x.float() * FACTORS[kind]).clamp(-GREATEST, GREATEST))
    return out


def scale_norm(norm: nn.LayerNorm, layer: nn.Linear) -> None:
    """Let the results of a norm, which are the inputs of a layer, use the range of FP8.

    The weights of the norm are multiplied by a power of two, which is exact, and those of the layer
    are divided by it. No result can be larger than 448: a normalized row of n numbers has none
    above √n.
    """
    weight, bias = norm.weight.detach(), norm.bias.detach()
    bound = len(weight) ** 0.5 * weight.float().abs().amax() + bias.float().abs().amax()
    factor = torch.exp2((GREATEST / bound.clamp(min=SMALLEST)).log2().floor()).to(weight.dtype)
    norm.weight.data, norm.bias.data = weight * factor, bias * factor
    layer.weight.data = layer.weight.detach() / factor


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute attention to keys and values that `to_fp8` has stored as "keys".

    The query is [rows, heads, queries, head width], keys and values [rows, heads, tokens, head
    width]. There is no mask.
    """
    assert mask is None  # all patches of an image count
    if query.is_cuda:
        from captiond.captioners import kernels

        return kernels.attend_fp8(query, keys, values, FACTORS["keys"])
    keys, values = (stored.to(query.dtype) / FACTORS["keys"] for stored in (keys, values))
    return scaled_dot_product_attention(query, keys, values)

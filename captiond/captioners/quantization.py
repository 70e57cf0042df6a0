"""The number formats of the layers that images go through: which kind of layer, and what it needs.

The layers for texts are those of `linear.linears`. In FP8 only images have layers of their own.
"""

import torch
from torch import nn

from captiond.captioners.choices import LinearWay
from captiond.captioners.fp8 import FP8, Fp8Linear, scale_norm
from captiond.captioners.linear import (
    SMALLEST,
    Int8Linear,
    MakeLinear,
    PackedLinear,
    PlainLinear,
    linears,
)
from captiond.settings.config import Precision


def image_linears(
    precision: Precision, device: torch.device, way: LinearWay = "onednn"
) -> MakeLinear:
    """Return the kind of layer for images, and for keys and values of their features."""
    return Fp8Linear if precision == "fp8" else linears(precision, device, way)


def unquantized(make: MakeLinear) -> MakeLinear:
    """Return the kind of layer for inputs that need all of their precision."""
    if make is Fp8Linear:
        return PlainLinear
    return PackedLinear if make is Int8Linear else make


def normalized_dtype(make: MakeLinear) -> torch.dtype | None:
    """Return the type in which a norm stores the inputs of a layer; None: that of its own."""
    return FP8 if make is Fp8Linear else None


def balance(make: MakeLinear, norm: nn.LayerNorm, layer: nn.Linear) -> None:
    """Before a layer is quantized, adapt its inputs, the results of a norm, to the format."""
    if make is Int8Linear:
        smooth(norm, layer)
    elif make is Fp8Linear:
        scale_norm(norm, layer)


def smooth(norm: nn.LayerNorm, layer: nn.Linear) -> None:
    """Let the inputs of a layer and its weight have channels of similar sizes, for integers.

    Channel j of the normalization that makes the inputs is divided by a power of two, which is
    exact, and column j of the weight is multiplied by it: Xiao et al., "SmoothQuant", 2023. Without
    a sample of inputs, their sizes follow from the normalization: its results have variance 1
    before they are scaled by `norm`.
    """
    inputs = 3 * norm.weight.detach().abs() + norm.bias.detach().abs()
    columns = layer.weight.detach().abs().amax(0)
    factors = (inputs.float() / columns.float().clamp(min=SMALLEST)).clamp(min=SMALLEST).sqrt()
    factors = torch.exp2((factors / factors.mean()).log2().round()).to(norm.weight.dtype)
    norm.weight.data = norm.weight.detach() / factors
    norm.bias.data = norm.bias.detach() / factors
    layer.weight.data = layer.weight.detach() * factors

"""Layers, keys and values in FP8 stay near those in fp32, and captions stay the same."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from captiond.captioners import fp8
from captiond.captioners.blip.attention import plain
from captiond.captioners.devices import pick_precision
from captiond.captioners.fp8 import FP8, GREATEST, Fp8Linear, scale_norm, to_fp8
from captiond.captioners.linear import linear_of
from captiond.captioners.norm import norms
from captiond.errors import ModelBroken

NEAR = 0.06  # of the size of the result: two products of numbers with 3 bits of mantissa


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(result: Tensor, exact: Tensor) -> float:
    return float((result.float() - exact).norm() / exact.norm())


def test_a_layer_is_near_its_product_in_fp32() -> None:
    x, weight, bias = random(2, 5, 64), 0.03 * random(32, 64, seed=1), random(32, seed=2)
    exact = x @ weight.t() + bias
    layer = Fp8Linear(weight, bias.bfloat16())
    assert error(layer(x.bfloat16()), exact) < NEAR
    residual = random(2, 5, 32, seed=3)
    assert error(layer(x.bfloat16(), residual.bfloat16()), exact + residual) < NEAR


def test_the_layers_of_an_mlp_pass_fp8_on() -> None:
    x, wide, narrow = random(2, 5, 64), 0.1 * random(128, 64, seed=1), random(64, 128, seed=2)
    zeros = torch.zeros(128).bfloat16(), torch.zeros(64).bfloat16()
    up = Fp8Linear(wide, zeros[0], activation="gelu")
    down = Fp8Linear(narrow, zeros[1], inputs="gelu")
    expanded = up(x.bfloat16())
    assert expanded.dtype == FP8
    assert error(down(expanded), gelu(x @ wide.t()) @ narrow.t()) < 2 * NEAR


def test_too_large_numbers_are_cut_off() -> None:
    stored = to_fp8(torch.tensor([1e6, -1e6, 0.0, 2.0]), "normalized")
    assert stored.float().tolist() == [GREATEST, -GREATEST, 0.0, 2.0]


def test_rows_do_not_depend_on_each_other() -> None:
    layer = Fp8Linear(random(32, 64, seed=1), torch.zeros(32).bfloat16())
    x = random(4, 64).bfloat16()
    large = torch.cat([x, 100 * x])
    assert torch.equal(layer(large)[:4], layer(x))


@pytest.mark.parametrize("size", [0.01, 1.0, 50.0])
def test_a_scaled_norm_uses_the_range_and_changes_no_result(size: float) -> None:
    norm, layer = nn.LayerNorm(64), nn.Linear(64, 32)
    norm.weight.data = size * random(64, seed=1)
    x = random(7, 64, seed=2)
    x[0], x[0, 0] = 0.0, 1e4  # the largest number that a normalized row can have
    exact = layer(norm(x))
    scale_norm(norm, layer)
    assert torch.equal(layer(norm(x)), exact)
    stored = norms(None)(norm, FP8)(x)
    assert stored.float().isfinite().all()
    assert stored.float().abs().max() > GREATEST / 8
    assert error(linear_of(Fp8Linear, deepcopy(layer), inputs="normalized")(stored), exact) < NEAR


def test_attention_to_stored_keys_is_near_that_to_the_keys() -> None:
    query, keys, values = (random(2, 4, count, 16, seed=count) for count in (3, 20, 21))
    values = values[:, :, :20]
    stored = to_fp8(keys, "keys"), to_fp8(values, "keys")
    assert error(fp8.attend(query, *stored), plain(query, keys, values)) < NEAR


def test_a_cpu_refuses_fp8() -> None:
    with pytest.raises(ModelBroken, match="fp8 is for GPUs"):
        pick_precision("fp8", torch.device("cpu"))

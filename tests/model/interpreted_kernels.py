"""Tests of the Triton kernels by Triton's interpreter: `test_kernels` runs them in a process of
their own, because Triton decides when it is imported how kernels run.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.testing import assert_close

from captiond.captioners import kernels
from captiond.captioners.blip.attention import attend_newest
from captiond.captioners.linear import PlainLinear
from captiond.captioners.norm import FusedNorm, PlainNorm, norms

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 0.05}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("width", [96, 128])
def test_layer_norm_is_that_of_torch(dtype: torch.dtype, width: int) -> None:
    def close(ours: Tensor, exact: Tensor) -> None:
        assert_close(ours.float(), exact, atol=CLOSE[dtype], rtol=0.01)

    x, residual = (random(3, 5, width, seed=seed, dtype=dtype) for seed in (1, 2))
    weight, bias = (random(width, seed=seed, dtype=dtype) for seed in (3, 4))

    def normalized(exact: Tensor) -> Tensor:
        return layer_norm(exact, (width,), weight.float(), bias.float(), 1e-5)

    close(kernels.layer_norm(x, weight, bias, 1e-5), normalized(x.float()))
    total, ours = kernels.add_layer_norm(x, residual, weight, bias, 1e-5)
    close(total, x.float() + residual.float())
    close(ours, normalized(x.float() + residual.float()))
    assert torch.equal(kernels.layer_norm_of_sum(x, residual, weight, bias, 1e-5), ours)


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("position", [0, 1, 31, 32, 40, 63])
def test_the_newest_token_attends_to_its_text(dtype: torch.dtype, position: int) -> None:
    texts, heads, tokens, width = 3, 2, 64, 16
    keys, values = (random(texts, heads, tokens, width, seed=seed, dtype=dtype) for seed in (1, 2))
    query, key, value = random(texts, 1, 3, heads, width, dtype=dtype).permute(2, 0, 3, 1, 4)
    place, known = torch.tensor([position]), (keys.clone(), values.clone())
    ours = kernels.attend_newest(query, key, value, (keys, values), place)
    theirs = attend_newest(query, key, value, known, place)
    assert_close(ours, theirs, atol=CLOSE[dtype], rtol=0.01)
    assert torch.equal(keys, known[0])
    assert torch.equal(values, known[1])


def test_a_fused_norm_does_what_a_plain_one_does() -> None:
    module, linear = nn.LayerNorm(32), PlainLinear(random(32, 32), torch.ones(32))
    x, residual = random(4, 32, seed=1), random(4, 32, seed=2)
    plain, fused = norms(None)(module), norms(kernels)(module)
    assert isinstance(plain, PlainNorm)
    assert isinstance(fused, FusedNorm)
    assert_close(fused(x), plain(x))
    assert_close(fused.of_sum(linear, x, residual), plain.of_sum(linear, x, residual))
    assert_close(fused.with_sum(linear, x, residual), plain.with_sum(linear, x, residual))

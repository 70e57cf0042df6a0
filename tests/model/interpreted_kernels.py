"""Tests of the Triton kernels by Triton's interpreter: `test_kernels` runs them in a process of
their own, because Triton decides when it is imported how kernels run.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.testing import assert_close

from captiond.captioners import fp8, gpu_resize, kernels
from captiond.captioners.blip.attention import attend_newest
from captiond.captioners.gpu_resize import GpuResizer, ResizeDiffersError, check
from captiond.captioners.linear import Activation, PlainLinear
from captiond.captioners.norm import FusedNorm, PlainNorm, norms
from captiond.decoding.geometry import Geometry
from captiond.decoding.resampling import resized

# Triton's interpreter, not its compiler, halves a number in FP8 if rounding raises its exponent.
NEARLY_ALL = 0.96
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


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_numbers_in_fp8_are_those_of_torch(activation: Activation) -> None:
    x = 40 * random(7, 700, dtype=torch.bfloat16)  # some are cut off
    ours = torch.empty(x.shape, dtype=fp8.FP8)
    kernels.to_fp8(x, ours, fp8.FACTORS["any"], activation)
    theirs = fp8.to_fp8(x.float(), "any", activation=activation)
    assert near(ours, theirs.float(), 0.13) > NEARLY_ALL  # at most one step of the format apart
    assert ours.float().abs().max() == fp8.GREATEST


def test_a_norm_stores_fp8() -> None:
    x, residual = random(4, 96, seed=1), random(4, 96, seed=2)
    weight, bias = torch.ones(96), torch.zeros(96)
    exact = kernels.layer_norm(x, weight, bias, 1e-5)
    stored = kernels.layer_norm(x, weight, bias, 1e-5, fp8.FP8)
    assert stored.dtype == fp8.FP8
    assert near(stored, exact, 0.07) > NEARLY_ALL
    total, stored = kernels.add_layer_norm(x, residual, weight, bias, 1e-5, fp8.FP8)
    assert torch.equal(total, x + residual)
    assert near(stored, layer_norm(total, (96,)), 0.07) > NEARLY_ALL


def near(stored: Tensor, exact: Tensor, relative: float) -> float:
    """Return the part of the numbers that are near exact ones."""
    return torch.isclose(stored.float(), exact, atol=0.002, rtol=relative).float().mean().item()


@pytest.mark.parametrize("columns", [1, 3, 20])
@pytest.mark.parametrize("patches", [5, 64, 150])
def test_attention_to_fp8_is_that_of_torch(columns: int, patches: int) -> None:
    images, heads, width = 2, 3, 32
    memory = random(images, patches, 2, heads, width, seed=1)
    keys, values = fp8.to_fp8(memory, "keys").permute(2, 0, 3, 1, 4)
    query = random(images, columns, heads, width, seed=2).transpose(1, 2)
    ours = kernels.attend_fp8(query, keys, values, fp8.FACTORS["keys"])
    assert_close(ours, fp8.attend(query, keys, values), atol=2e-3, rtol=0.01)


def test_images_of_a_batch_are_resized_as_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """In several chunks, of which the last is not full; some images by their columns first."""
    monkeypatch.setattr(gpu_resize, "CHUNK", 3)
    geometry = Geometry(6, 8, Image.Resampling.BICUBIC, whole_bytes=3 * 20 * 20)
    resizer = GpuResizer(torch.device("cpu"), geometry, 5)
    numbers = np.random.default_rng(0)
    for sizes in ((20, 20), (5, 40), (1, 1), (17, 9), (8, 6)), ((8, 40), (17, 9), (3, 50)):
        images = [numbers.integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in sizes]
        ours = resizer(images)
        for image, one in zip(images, ours, strict=True):
            assert np.array_equal(one, resized(image, geometry))


def test_a_resizer_is_compared_with_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_resize, "CHECKED_SIZES", ((20, 20), (9, 20), (1000, 1000)))
    geometry = Geometry(6, 8, Image.Resampling.BICUBIC, whole_bytes=3 * 20 * 20)
    check(GpuResizer(torch.device("cpu"), geometry, 2))
    monkeypatch.setattr(gpu_resize, "columns_first", lambda *_: False)
    with pytest.raises(ResizeDiffersError):
        check(GpuResizer(torch.device("cpu"), geometry, 2))
    monkeypatch.setattr(gpu_resize, "CHECKED_SIZES", ((1000, 1000),))
    with pytest.raises(ResizeDiffersError):
        check(GpuResizer(torch.device("cpu"), geometry, 2))


def test_a_resizer_for_small_batches_writes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compared with more images than a batch has."""
    monkeypatch.setattr(gpu_resize, "CHECKED_SIZES", ((20, 20), (9, 20), (15, 15)))
    geometry = Geometry(6, 8, Image.Resampling.BICUBIC, whole_bytes=3 * 20 * 20)
    resizer = GpuResizer(torch.device("cpu"), geometry, 1)
    check(resizer)
    with pytest.raises(ValueError, match="memory for 1"):
        resizer([np.zeros((20, 20, 3), np.uint8)] * 2)

"""Linear layers and cross-attention in 8-bit integers stay near those in fp32."""

import os
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from captiond.captioners.blip.cross import BatchedFeatures
from captiond.captioners.blip.int8_features import Int8Features, Int8Image
from captiond.captioners.devices import dtype_of, has_amx
from captiond.captioners.linear import (
    GELU_ZERO,
    LARGEST,
    MANY_ROWS,
    Activation,
    Inputs,
    Int8Linear,
    Int8Rows,
    PackedLinear,
    PlainLinear,
    has_onednn,
    integers_of,
    largest_weight,
    linear_of,
    quantize_all,
    quantize_gelu,
    quantize_probabilities,
    quantize_rows,
)
from captiond.captioners.quantization import balance
from tests.patience import PATIENCE

IN, OUT = 96, 160
NEAR = 0.03  # of the norm of the exact result
# Activations between the products: bf16 only where the processor multiplies it.
DTYPES = [torch.float32, *([torch.bfloat16] if has_onednn(torch.bfloat16) else [])]


def error(result: Tensor, exact: Tensor) -> float:
    """Return the distance of two tensors as a part of the norm of the second."""
    return float((result.float() - exact).norm() / exact.norm())


def value(rows: Int8Rows) -> Tensor:
    return (rows.integers.float() - rows.zero) * rows.scales


def inputs_of(kind: Inputs, *shape: int) -> Tensor:
    """Return inputs as the named layer makes them. Other inputs have rows of very unlike sizes."""
    x = torch.randn(*shape, IN)
    match kind:
        case "gelu":
            return gelu(3 * x)
        case "normalized":
            return x
        case "any":
            return x * torch.logspace(-3, 3, shape[-1])[:, None]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(11)


def test_integers_are_rounded_to_the_nearest() -> None:
    x = torch.linspace(0, 255, 1021)
    assert torch.equal(integers_of(x + 2.0**23).float(), x.round())


@pytest.mark.parametrize("rows", [1, 7])
def test_a_quantized_row_is_at_most_half_a_step_away(rows: int) -> None:
    x = inputs_of("any", rows)
    step = x.abs().amax(-1, keepdim=True) / 127
    assert ((value(quantize_rows(x)) - x).abs() <= 0.51 * step).all()
    positive = torch.randn(rows, IN).softmax(-1)
    step = positive.amax(-1, keepdim=True) / 255
    assert ((value(quantize_probabilities(positive.clone())) - positive).abs() <= 0.51 * step).all()


def test_results_of_gelu_have_more_steps_than_numbers_of_either_sign() -> None:
    x = inputs_of("gelu", 50)
    quantized = quantize_gelu(x.clone())
    assert error(value(quantized), x) < 0.7 * error(value(quantize_rows(x)), x)
    least = (torch.full((1, IN), -0.16997), torch.zeros(1, IN))
    for rows in least:  # the least value of GELU, and a row of zeros
        assert torch.allclose(value(quantize_gelu(rows.clone())), rows, atol=0.17 / GELU_ZERO)


def test_a_row_of_zeros_stays_zero() -> None:
    zeros = torch.zeros(2, IN)
    integers, scale = quantize_all(zeros)
    assert (integers == 128).all()
    assert scale > 0
    assert torch.equal(value(quantize_rows(zeros)), zeros)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize("inputs", ["any", "normalized", "gelu"])
@pytest.mark.parametrize("shape", [(5,), (3, 1), (1, MANY_ROWS), (3, 100)], ids=str)
def test_a_layer_is_near_the_exact_one(
    shape: tuple[int, ...],
    inputs: Inputs,
    activation: Activation,
    residual: bool,
    dtype: torch.dtype,
) -> None:
    weight, bias = torch.randn(OUT, IN), torch.randn(OUT)
    x = inputs_of(inputs, *shape).to(dtype)
    added = torch.randn(*shape, OUT).to(dtype) if residual and activation == "none" else None
    exact = PlainLinear(weight, bias, activation)(
        x.float(), None if added is None else added.float()
    )
    result = Int8Linear(weight, bias, activation, inputs)(x.clone(), added)
    assert result.shape == exact.shape
    assert activation == "gelu" or result.dtype == dtype
    by_row = zip(result.flatten(0, -2), exact.flatten(0, -2), strict=True)
    assert max(error(row, wanted) for row, wanted in by_row) < 2 * NEAR
    assert error(result, exact) < NEAR


@torch.inference_mode()
@pytest.mark.parametrize("inputs", ["any", "normalized", "gelu"])
def test_an_image_has_the_same_result_in_every_batch(inputs: Inputs) -> None:
    layer = Int8Linear(torch.randn(OUT, IN), torch.randn(OUT), "none", inputs)
    images = torch.stack([size * inputs_of(inputs, 100) for size in (0.01, 1, 100)])
    together = layer(images.clone())
    for image, result in zip(images, together, strict=True):
        assert torch.equal(layer(image[None].clone())[0], result)


@torch.inference_mode()
def test_balance_changes_no_result_and_lets_integers_be_nearer() -> None:
    x = torch.randn(2, 100, IN)
    norm, layer = nn.LayerNorm(IN), nn.Linear(IN, OUT)
    norm.weight.data = torch.logspace(-1.5, 1.5, IN)
    exact = layer(norm(x))
    alone = linear_of(Int8Linear, deepcopy(layer), inputs="normalized")(norm(x))
    balance(PackedLinear, norm, layer)
    assert torch.equal(layer(norm(x)), exact)
    balance(Int8Linear, norm, layer)
    torch.testing.assert_close(layer(norm(x)), exact)
    balanced = linear_of(Int8Linear, layer, inputs="normalized")(norm(x))
    assert error(balanced, exact) < 0.7 * error(alone, exact)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_attention_to_integer_features_is_near_the_exact_one(dtype: torch.dtype) -> None:
    features = torch.randn(3, 210, IN)
    query = torch.randn(3, 12, IN) * torch.tensor([0.001, 0.1, 1]).view(3, 1, 1)
    packed = Int8Features([Int8Image(image) for image in features.to(dtype)])
    exact = BatchedFeatures(features).attend(query)
    attended = packed.attend(query.to(dtype))
    assert attended.dtype == dtype
    near = NEAR * LARGEST / largest_weight()
    # The first image's attention is nearly even, the last one's is nearly all to one patch.
    for image in range(3):
        assert error(attended[image], exact[image]) < near
    some = torch.tensor([2, 0])
    assert torch.equal(packed.select(some).attend(query.to(dtype)[some]), attended[some])
    assert torch.equal(packed.first(2).attend(query.to(dtype)[:2]), attended[:2])


def test_activations_beside_integers_are_bf16_where_the_processor_has_tiles() -> None:
    wanted = torch.bfloat16 if has_amx() else torch.float32
    assert dtype_of("int8", torch.device("cpu")) == wanted
    assert dtype_of("fp32", torch.device("cpu")) == torch.float32
    assert dtype_of("bf16", torch.device("cpu")) == torch.bfloat16


# ---------------------------------------------------------------- processors without AVX-512

LAYERS = """
import torch
from captiond.captioners.linear import Int8Linear, PlainLinear, linears
torch.manual_seed(11)
weight, bias = torch.randn(160, 96), torch.randn(160)
for rows in (3, 100):
    x = torch.randn(rows, 96)
    exact = PlainLinear(weight, bias)(x)
    in_bf16 = linears("bf16", torch.device("cpu"))(weight.bfloat16(), bias.bfloat16())
    for result in (Int8Linear(weight, bias)(x), in_bf16(x.bfloat16()).float()):
        print(float((result - exact).norm() / exact.norm()))
"""


def test_layers_are_near_the_exact_one_without_the_instructions_for_them() -> None:
    """oneDNN uses AVX2 only, which adds two products of integers in 16 bits, and has no bf16."""
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    run = subprocess.run(
        [sys.executable, "-c", LAYERS],
        env=limited,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    errors = [*map(float, run.stdout.split())]
    assert len(errors) == 4
    assert max(errors) < NEAR

"""Captions in bf16, int8 and FP8 are those in fp32, whatever instructions the processor has."""

from copy import deepcopy
from dataclasses import replace
from math import isfinite
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip import attention
from captiond.captioners.blip.captioner import Blip
from captiond.captioners.blip.cross import AbsorbedContext
from captiond.captioners.blip.forward import EagerState, Forward
from captiond.captioners.blip.search import Search
from captiond.captioners.choices import CROSS, CrossWay, default_choices
from captiond.captioners.devices import DTYPES
from captiond.captioners.files import EMBEDDED
from captiond.captioners.linear import has_onednn, linears
from captiond.captioners.protocol import Placement
from captiond.captioners.quantization import image_linears
from captiond.captioners.sequences import SpecialTokens
from captiond.jobs import Generation
from captiond.settings.config import Precision
from tools.scenes.dataset import draw_sample, open_picture

SCENES, SEED = 40, 61_803
SAME = 0.95  # of the captions, at least
BEGIN, END = 5, 3  # the ids of tokens of this model
CPU = torch.device("cpu")
# The precision of the linear layers, and the type of the activations between them.
WAYS: list[tuple[Precision, torch.dtype]] = [("bf16", torch.bfloat16), ("int8", torch.float32)]
if has_onednn(torch.bfloat16):
    WAYS.append(("int8", torch.bfloat16))  # only chosen on a processor with AMX


@pytest.fixture(scope="module")
def model() -> BlipForConditionalGeneration:
    loaded: BlipForConditionalGeneration = BlipForConditionalGeneration.from_pretrained(
        EMBEDDED["captiond/scenes"]
    )
    return loaded


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    pictures = [open_picture(draw_sample(SEED, number).jpeg) for number in range(SCENES)]
    processor = BlipImageProcessorPil.from_pretrained(EMBEDDED["captiond/scenes"])
    found: Tensor = processor(pictures, return_tensors="pt")["pixel_values"]
    return found


def forward_of(
    model: BlipForConditionalGeneration,
    precision: Precision,
    dtype: torch.dtype,
    cross: CrossWay = "keys",
) -> Forward:
    copied: Any = deepcopy(model)
    choices = replace(default_choices(precision), cross=cross)
    make = linears(precision, CPU)
    return Forward(copied.to(dtype), make, rows=128, absorb=True, choices=choices)


def captions(forward: Forward, pixels: Tensor, beams: int) -> Tensor:
    """Return token ids [images, tokens] of the best captions."""
    search = Search(forward, SpecialTokens(begin=BEGIN, end=END, pad=0))
    generation = Generation(num_beams=beams, max_new_tokens=24)
    found = search(pixels, torch.zeros(1, dtype=torch.int64), generation).tokens[:, 0]
    return torch.nn.functional.pad(found, (0, 25 - found.shape[1]))


@pytest.fixture(scope="module")
def wanted() -> dict[int, Tensor]:
    """The captions in fp32, by the number of beams. The first test that needs them adds them."""
    return {}


@torch.inference_mode()
@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("cross", CROSS)
@pytest.mark.parametrize(("precision", "dtype"), WAYS, ids=str)
def test_captions_are_those_in_fp32(
    model: BlipForConditionalGeneration,
    pixels: Tensor,
    wanted: dict[int, Tensor],
    precision: Precision,
    dtype: torch.dtype,
    cross: CrossWay,
    beams: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Absorb the projections although the images of this model are small.
    monkeypatch.setattr(attention, "MANY_TOKENS", 0)
    if beams not in wanted:
        wanted[beams] = captions(forward_of(model, "fp32", DTYPES["fp32"]), pixels, beams)
    less_exact = forward_of(model, precision, dtype, cross)
    context = less_exact.cross_attention.context_of(less_exact.encode(pixels[:2].to(dtype)), beams)
    assert isinstance(context, AbsorbedContext) == (cross != "keys")
    same = (captions(less_exact, pixels.to(dtype), beams) == wanted[beams]).all(1)
    assert same.float().mean() >= SAME


@torch.inference_mode()
@pytest.mark.parametrize("beams", [1, 2])
def test_captions_in_fp8_are_those_in_fp32(
    model: BlipForConditionalGeneration, pixels: Tensor, wanted: dict[int, Tensor], beams: int
) -> None:
    if beams not in wanted:
        wanted[beams] = captions(forward_of(model, "fp32", DTYPES["fp32"]), pixels, beams)
    copied: Any = deepcopy(model)
    dtype = DTYPES["fp8"]
    make, make_text = image_linears("fp8", CPU), linears("fp8", CPU)
    forward = Forward(copied.to(dtype), make, rows=128, make_text=make_text)
    same = (captions(forward, pixels.to(dtype), beams) == wanted[beams]).all(1)
    assert same.float().mean() >= SAME


@torch.inference_mode()
@pytest.mark.parametrize(("precision", "dtype"), WAYS, ids=str)
def test_a_token_step_is_near_that_in_fp32(
    model: BlipForConditionalGeneration, pixels: Tensor, precision: Precision, dtype: torch.dtype
) -> None:
    tokens = torch.tensor([[7], [9], [11]])

    def step(forward: Forward, pixels: Tensor) -> tuple[Tensor, Tensor, EagerState]:
        features = forward.encode(pixels)
        state, _ = forward.prefill(features, torch.tensor([BEGIN]), beams=1, new_tokens=4)
        return features, state.step(tokens), state

    features, logits, _ = step(forward_of(model, "fp32", DTYPES["fp32"]), pixels[:3])
    forward = forward_of(model, precision, dtype)
    near_features, near, state = step(forward, pixels[:3].to(dtype))
    assert near_features.dtype == dtype == state.cache[0][0].dtype
    assert near.shape == logits.shape == (3, len(logits[0]))
    # Products of integers are in fp32, so the logits lose nothing to rounding.
    assert near.dtype == (torch.float32 if precision == "int8" else dtype)
    assert (near_features.float() - features).norm() < 0.05 * features.norm()
    assert (near.float() - logits).norm() < 0.05 * logits.norm()


@pytest.mark.parametrize(
    "generation", [Generation(), Generation(num_beams=3, num_captions=2)], ids=str
)
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_confidences_are_probabilities(precision: Precision, generation: Generation) -> None:
    captioner = Blip.load(EMBEDDED["captiond/scenes"], Placement(CPU, precision))
    pixels = captioner.allocate_pixels(5)
    for number in range(len(pixels)):
        pixels[number] = 60 * number  # grey pictures, of which the model is not sure
    captions = [caption for best in captioner.caption(pixels, generation) for caption in best]
    for caption in captions:
        assert caption.confidence is not None
        assert 0 <= caption.confidence <= 1
        assert isfinite(caption.score)
        assert caption.tokens
        assert all(token.log_probability <= 1e-6 for token in caption.tokens)
    assert min(caption.confidence or 0 for caption in captions) < 1

"""Both ways to compute cross-attention give the same result."""

from typing import Any

import pytest
import torch
from transformers.models.blip.configuration_blip import BlipConfig, BlipTextConfig
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration
from transformers.models.blip.modeling_blip_text import BlipTextModel

from captiond.captioners.blip.attention import plain
from captiond.captioners.blip.cross import (
    AbsorbedContext,
    CrossAttention,
    ProjectedContext,
    groups_of,
)
from captiond.captioners.blip.forward import Forward
from captiond.captioners.linear import MakeLinear, PackedLinear, PlainLinear

HEADS, WIDTH, LAYERS = 3, 64, 2
PATCHES = 257


@pytest.fixture(params=[(PackedLinear, "packed"), (PackedLinear, "fused"), (PlainLinear, "fused")])
def cross(request: pytest.FixtureRequest) -> CrossAttention:
    """With products of oneDNN, image by image, or with the fused kernel for the whole batch."""
    torch.manual_seed(3)
    width = HEADS * WIDTH
    config: Any = BlipTextConfig(
        vocab_size=100,
        hidden_size=width,
        intermediate_size=width,
        num_attention_heads=HEADS,
        num_hidden_layers=LAYERS,
        encoder_hidden_size=128,
        initializer_range=0.2,
    )
    model: Any = BlipTextModel(config, add_pooling_layer=False)
    layers = [layer.crossattention.self for layer in model.encoder.layer]
    for layer in layers:  # transformers begins with zeros
        for bias in (layer.key.bias, layer.value.bias):
            torch.nn.init.normal_(bias)
    make: MakeLinear
    make, way = request.param
    return CrossAttention(layers, make, plain, heads=HEADS, chunk=2, absorb=True, way=way)


@pytest.mark.parametrize(
    ("rows", "least", "groups"), [(12, 0.25, 1), (12, 1, 1), (12, 2, 2), (12, 5, 6), (7, 2, 7)]
)
def test_queries_make_equal_groups(rows: int, least: float, groups: int) -> None:
    assert groups_of(rows, least) == groups


def random_features(images: int) -> torch.Tensor:
    return torch.randn(images, PATCHES, 128)


@torch.inference_mode()
@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_both_ways_give_the_same(cross: CrossAttention, images: int, columns: int) -> None:
    features = random_features(images)
    absorbed = cross.context_of(features, beams=1)
    projected = cross.project(features)
    assert isinstance(absorbed, AbsorbedContext)
    assert absorbed.images == projected.images == images
    for layer in range(LAYERS):
        query = torch.randn(images, HEADS, columns, WIDTH)
        attended = absorbed.attend(layer, query)
        torch.testing.assert_close(attended, projected.attend(layer, query), rtol=1e-4, atol=1e-4)
    some = torch.tensor([images - 1, 0])
    query = torch.randn(2, HEADS, columns, WIDTH)
    attended = absorbed.select(some).attend(1, query)
    torch.testing.assert_close(
        attended, projected.select(some).attend(1, query), rtol=1e-4, atol=1e-4
    )


@torch.inference_mode()
@pytest.mark.parametrize(
    ("beams", "way"), [(1, AbsorbedContext), (4, AbsorbedContext), (5, ProjectedContext)]
)
def test_few_texts_use_absorbed_attention(cross: CrossAttention, beams: int, way: type) -> None:
    assert isinstance(cross.context_of(random_features(1), beams), way)
    assert cross.capacity == (
        1 if way is ProjectedContext else 0
    )  # absorbed features need no buffer


@torch.inference_mode()
@pytest.mark.parametrize(("patch_size", "capacity"), [(6, 0), (8, 1)])
def test_small_images_use_keys_and_values(patch_size: int, capacity: int) -> None:
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1}
    vision = {"num_hidden_layers": 1, "image_size": 96, "patch_size": patch_size}
    text = {"num_hidden_layers": 1, "encoder_hidden_size": 64}
    config: Any = BlipConfig(vision_config=shape | vision, text_config=shape | text)
    model = BlipForConditionalGeneration(config)
    forward = Forward(model, PackedLinear, rows=640, absorb=True)
    features = forward.encode(torch.zeros(1, 3, 96, 96))
    forward.prefill(features, torch.tensor([1]), beams=1, new_tokens=1)
    assert forward.cross_attention.capacity == capacity

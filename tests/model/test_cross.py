"""Cross-attention done two ways finds the same."""

from typing import Any

import pytest
import torch
from transformers import BlipConfig, BlipForConditionalGeneration, BlipTextConfig
from transformers.models.blip.modeling_blip_text import BlipTextModel

from captiond.captioners.blip.attention import plain
from captiond.captioners.blip.cross import Absorbed, CrossAttention, Kept
from captiond.captioners.blip.forward import Forward
from captiond.captioners.linear import MakeLinear, PackedLinear, PlainLinear

HEADS, WIDTH, LAYERS = 3, 64, 2
PATCHES = 257


@pytest.fixture(params=[PackedLinear, PlainLinear])
def cross(request: pytest.FixtureRequest) -> CrossAttention:
    """With products of oneDNN, image by image, or with plain ones for the whole batch."""
    torch.manual_seed(3)
    width = HEADS * WIDTH
    config: Any = BlipTextConfig(
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
    make: MakeLinear = request.param
    return CrossAttention(layers, make, plain, heads=HEADS, chunk=2, fold=True)


def seen(images: int) -> torch.Tensor:
    return torch.randn(images, PATCHES, 128)


@torch.inference_mode()
@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_both_ways_find_the_same(cross: CrossAttention, images: int, columns: int) -> None:
    what = seen(images)
    absorbed, kept = cross.of(what, beams=1), cross.keep(what)
    assert isinstance(absorbed, Absorbed)
    assert absorbed.images == kept.images == images
    for layer in range(LAYERS):
        query = torch.randn(images, HEADS, columns, WIDTH)
        found = absorbed.look(layer, query)
        torch.testing.assert_close(found, kept.look(layer, query), rtol=1e-4, atol=1e-4)
    some = torch.tensor([images - 1, 0])
    query = torch.randn(2, HEADS, columns, WIDTH)
    found = absorbed.select(some).look(1, query)
    torch.testing.assert_close(found, kept.select(some).look(1, query), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize(("beams", "way"), [(1, Absorbed), (4, Absorbed), (5, Kept)])
def test_few_texts_are_absorbed(cross: CrossAttention, beams: int, way: type) -> None:
    assert isinstance(cross.of(seen(1), beams), way)
    assert cross.room == (1 if way is Kept else 0)  # what is absorbed takes none


@torch.inference_mode()
@pytest.mark.parametrize(("patch_size", "room"), [(6, 0), (8, 1)])
def test_small_images_keep_keys_and_values(patch_size: int, room: int) -> None:
    """Of their products none is worth a call of its own."""
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1}
    vision = {"num_hidden_layers": 1, "image_size": 96, "patch_size": patch_size}
    text = {"num_hidden_layers": 1, "encoder_hidden_size": 64}
    config: Any = BlipConfig(vision_config=shape | vision, text_config=shape | text)
    model = BlipForConditionalGeneration(config)
    forward = Forward(model, PackedLinear, rows=640, fold=True)
    saw = forward.encode(torch.zeros(1, 3, 96, 96))
    forward.prefill(saw, torch.tensor([1]), beams=1, new_tokens=1)
    assert forward.cross.room == room

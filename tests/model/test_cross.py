"""Cross-attention done two ways finds the same."""

from typing import Any

import pytest
import torch
from transformers import BlipTextConfig
from transformers.models.blip.modeling_blip_text import BlipTextModel

from captiond.inference.attention import MANY_TOKENS, plain
from captiond.inference.cross import Absorbed, CrossAttention, Kept
from captiond.inference.linear import PackedLinear

HEADS, WIDTH, LAYERS = 3, 64, 2
PATCHES = MANY_TOKENS + 57


@pytest.fixture
def cross() -> CrossAttention:
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
    return CrossAttention(layers, PackedLinear, plain, heads=HEADS, chunk=2, fold=True)


def seen(images: int, patches: int = PATCHES) -> torch.Tensor:
    return torch.randn(images, patches, 128)


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
@pytest.mark.parametrize(
    ("patches", "beams", "way"),
    [
        (PATCHES, 1, Absorbed),
        (PATCHES, 4, Absorbed),
        (PATCHES, 5, Kept),  # so many texts are worth keys and values
        (MANY_TOKENS - 1, 1, Kept),  # products too small to be worth a call each
    ],
)
def test_few_texts_of_large_images_are_absorbed(
    cross: CrossAttention, patches: int, beams: int, way: type
) -> None:
    assert isinstance(cross.of(seen(1, patches), beams), way)
    assert cross.room == (1 if way is Kept else 0)  # what is absorbed takes none

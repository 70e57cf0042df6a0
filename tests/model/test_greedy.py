"""Our greedy search gives the tokens of transformers' `generate`, one by one."""

import pytest
import torch
from transformers import BlipConfig, BlipForConditionalGeneration

from captiond.inference.blip import is_plain
from captiond.inference.greedy import GreedyDecoder
from captiond.inference.models import EMBEDDED

SIZES = (1, 3, 7, 17)
PAD = 0  # of captiond/scenes


def generate(model: BlipForConditionalGeneration, pixels: torch.Tensor, new: int) -> torch.Tensor:
    tokens: torch.Tensor = model.generate(pixel_values=pixels, max_new_tokens=new, do_sample=False)
    return tokens


@pytest.fixture(scope="module")
def scenes() -> BlipForConditionalGeneration:
    model: BlipForConditionalGeneration = BlipForConditionalGeneration.from_pretrained(
        EMBEDDED["captiond/scenes"]
    )
    return model


@pytest.fixture(scope="module")
def random_weights() -> BlipForConditionalGeneration:
    """BLIP-base's proportions in small, with logits far enough apart to leave no ties."""
    torch.manual_seed(5)
    shape = {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 6}
    vision = {"num_hidden_layers": 3, "image_size": 96, "patch_size": 16, "initializer_range": 0.2}
    text = {
        "num_hidden_layers": 4,
        "vocab_size": 500,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.2,
    }
    config = BlipConfig(vision_config=shape | vision, text_config=shape | text)
    model = BlipForConditionalGeneration(config)
    model.train(mode=False)
    return model


@torch.inference_mode()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("new", [1, 5, 20])
def test_on_the_embedded_model(scenes: BlipForConditionalGeneration, size: int, new: int) -> None:
    pixels = torch.randn(size, 3, 64, 64, generator=torch.Generator().manual_seed(size))
    assert torch.equal(GreedyDecoder(scenes)(pixels, new), generate(scenes, pixels, new))


@torch.inference_mode()
@pytest.mark.parametrize("size", SIZES)
def test_on_random_weights(random_weights: BlipForConditionalGeneration, size: int) -> None:
    pixels = torch.randn(size, 3, 96, 96, generator=torch.Generator().manual_seed(size))
    expected = generate(random_weights, pixels, 30)
    assert torch.equal(GreedyDecoder(random_weights)(pixels, 30), expected)


@torch.inference_mode()
def test_rows_that_end_early_are_padded(scenes: BlipForConditionalGeneration) -> None:
    pixels = torch.randn(17, 3, 64, 64, generator=torch.Generator().manual_seed(17))
    tokens = GreedyDecoder(scenes)(pixels, 20)
    lengths = (tokens != PAD).sum(1)
    assert len(set(lengths.tolist())) > 1
    alone = [GreedyDecoder(scenes)(image[None], 20)[0] for image in pixels]
    for row, length, single in zip(tokens, lengths, alone, strict=True):
        assert torch.equal(row[:length], single)


def test_a_checkpoint_that_asks_for_more_is_left_to_generate(
    random_weights: BlipForConditionalGeneration,
) -> None:
    assert is_plain(random_weights)
    asked = random_weights.text_decoder.generation_config
    asked.repetition_penalty = 1.5
    try:
        assert not is_plain(random_weights)
    finally:
        asked.repetition_penalty = 1.0

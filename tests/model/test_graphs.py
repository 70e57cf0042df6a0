"""Token steps with fixed shapes in fixed memory, as a GPU replays them, give the same tokens.

These tests need no GPU: a step runs again where a GPU would replay it.
"""

from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import BlipForConditionalGeneration

from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.graphs import Graphs, Run, filled_up, rounded_up
from captiond.captioners.blip.search import Search
from captiond.captioners.files import EMBEDDED
from captiond.captioners.linear import MakeLinear, PackedLinear, PlainLinear
from captiond.captioners.sequences import Sequences, SpecialTokens
from captiond.jobs import Generation
from tests.model.test_search import (
    MODES,
    PROMPTS,
    generated,
    images,
    random_weights,
    texts_of,
)

__all__ = ["random_weights"]  # a fixture

CPU = torch.device("cpu")
SIZES = (17, 3, 1, 7, 3)  # a large batch first, and again what was captured before


class Searcher:
    """A search whose steps are captured; it counts the captures."""

    def __init__(
        self,
        model: BlipForConditionalGeneration,
        make: MakeLinear = PackedLinear,
        *,
        absorb: bool = False,
    ) -> None:
        text: Any = model.config.text_config
        self.forward = Forward(deepcopy(model), make, rows=128, absorb=absorb)
        self.captures, self.fails = 0, False
        tokens = SpecialTokens(text.bos_token_id, text.sep_token_id, text.pad_token_id)
        self.search = Search(Graphs(self.forward, self._capture, CPU), tokens)

    def _capture(self, run: Run) -> Run:
        if self.fails:
            self.fails = False
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.captures += 1
        for _ in range(3):  # as before a real capture, which must not change any result
            run()
        return run

    def __call__(
        self, pixels: torch.Tensor, prompt: tuple[int, ...], generation: Generation
    ) -> Sequences:
        return self.search(pixels, torch.tensor([0, *prompt]), generation)


@pytest.fixture(scope="module")
def scenes() -> BlipForConditionalGeneration:
    model: BlipForConditionalGeneration = BlipForConditionalGeneration.from_pretrained(
        EMBEDDED["captiond/scenes"]
    )
    return model


@torch.inference_mode()
@pytest.mark.parametrize("generation", MODES, ids=str)
@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_the_tokens_are_those_of_generate(
    scenes: BlipForConditionalGeneration, prompt: tuple[int, ...], generation: Generation
) -> None:
    searcher, config = Searcher(scenes), scenes.config
    vision: Any = config.vision_config
    for size in SIZES:
        pixels = images(size, vision.image_size)
        sequences = searcher(pixels, prompt, generation)
        ours = texts_of(scenes, sequences.tokens.flatten(0, 1))
        assert ours == generated(scenes, pixels, prompt, generation)


@torch.inference_mode()
def test_a_size_is_captured_once(scenes: BlipForConditionalGeneration) -> None:
    searcher = Searcher(scenes)
    vision: Any = scenes.config.vision_config
    long = Generation(min_new_tokens=15)  # so that no batch shrinks on its way
    for size, captures in ((8, 1), (5, 1), (8, 1), (3, 2), (4, 2), (9, 3), (8, 4), (16, 4)):
        searcher(images(size, vision.image_size), (), long)
        assert searcher.captures == captures


@torch.inference_mode()
@pytest.mark.parametrize(
    "batches",
    [
        ((4, 20, 1), (4, 60, 2), (4, 20, 3), (4, 60, 3), (4, 20, 3)),
        ((16, 20, 1), (2, 60, 2), (16, 20, 2), (2, 60, 2)),  # few long ones, many short ones
    ],
)
def test_texts_of_all_lengths_share_their_memory(
    scenes: BlipForConditionalGeneration, batches: tuple[tuple[int, int, int], ...]
) -> None:
    """`batches` are images, tokens, and the number of captures after the batch."""
    searcher = Searcher(scenes)
    vision: Any = scenes.config.vision_config
    for size, tokens, captures in batches:
        pixels = images(size, vision.image_size)
        long = Generation(min_new_tokens=15, max_new_tokens=tokens)
        sequences = searcher(pixels, (), long)
        assert texts_of(scenes, sequences.tokens[:, 0]) == generated(scenes, pixels, (), long)
        assert searcher.captures == captures


@torch.inference_mode()
def test_a_batch_is_independent_of_the_one_before(
    scenes: BlipForConditionalGeneration,
) -> None:
    searcher = Searcher(scenes)
    vision: Any = scenes.config.vision_config
    for generation in MODES:
        for size, prompt in zip(SIZES, (*PROMPTS, *PROMPTS), strict=False):
            pixels = images(size, vision.image_size)
            sequences = searcher(pixels, prompt, generation)
            ours = texts_of(scenes, sequences.tokens.flatten(0, 1))
            assert ours == generated(scenes, pixels, prompt, generation)


@torch.inference_mode()
@pytest.mark.parametrize("generation", MODES, ids=str)
def test_absorbed_cross_attention_gives_the_tokens_of_generate(
    random_weights: BlipForConditionalGeneration,
    generation: Generation,
) -> None:
    """Up to three beams are absorbed here, more keep keys and values; both share the graphs."""
    searcher = Searcher(random_weights, PlainLinear, absorb=True)
    vision: Any = random_weights.config.vision_config
    for size, prompt in zip(SIZES, (*PROMPTS, *PROMPTS), strict=False):
        pixels = images(size, vision.image_size)
        found = searcher(pixels, prompt, generation)
        ours = texts_of(random_weights, found.tokens.flatten(0, 1))
        assert ours == generated(random_weights, pixels, prompt, generation)


@torch.inference_mode()
def test_absorbed_images_that_go_on_move_up_when_others_have_ended(
    random_weights: BlipForConditionalGeneration,
) -> None:
    model, pixels = deepcopy(random_weights), images(17, 96)
    later = Generation(min_new_tokens=3)
    model.text_decoder.cls.predictions.decoder.bias.data[2] += 8.5  # the end becomes likely
    searcher = Searcher(model, PlainLinear, absorb=True)
    found = searcher(pixels, (), later)
    ours = texts_of(model, found.tokens[:, 0])
    assert searcher.captures > 1, "a smaller batch went on"
    assert len({len(text) for text in ours}) > 2
    assert ours == generated(model, pixels, (), later)


@torch.inference_mode()
def test_absorbed_cross_attention_has_one_memory_for_all_batches(
    random_weights: BlipForConditionalGeneration,
) -> None:
    searcher = Searcher(random_weights, PlainLinear, absorb=True)
    vision: Any = random_weights.config.vision_config
    long = Generation(min_new_tokens=15)
    for size, taken, captures in ((3, 4, 1), (4, 4, 1), (1, 4, 2), (5, 8, 3), (4, 8, 4)):
        searcher(images(size, vision.image_size), (), long)
        assert searcher.forward.cross_attention.capacities == (0, taken)
        assert searcher.captures == captures


def test_batches_are_filled_up_to_powers_of_two() -> None:
    assert [filled_up(n) for n in (1, 2, 3, 4, 5, 8, 9, 200)] == [1, 2, 4, 4, 8, 8, 16, 256]
    assert [rounded_up(n, 32) for n in (1, 31, 32, 33)] == [32, 32, 32, 64]


@torch.inference_mode()
def test_a_batch_without_enough_memory_releases_the_buffers(
    scenes: BlipForConditionalGeneration,
) -> None:
    searcher = Searcher(scenes)
    vision: Any = scenes.config.vision_config
    pixels, long = images(8, vision.image_size), Generation(min_new_tokens=15)
    searcher(pixels, (), long)
    searcher.fails = True
    with pytest.raises(torch.OutOfMemoryError):
        searcher(pixels.repeat(2, 1, 1, 1), (), long)
    assert searcher.forward.cross_attention.capacity == 0
    sequences = searcher(pixels[:4], (), long)
    assert searcher.forward.cross_attention.capacity == 4
    assert texts_of(scenes, sequences.tokens[:, 0]) == generated(scenes, pixels[:4], (), long)

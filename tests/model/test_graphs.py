"""Token steps with fixed shapes in fixed memory, as a GPU replays them, give the same tokens.

These tests need no GPU: a step runs again where a GPU would replay it.
"""

from copy import deepcopy
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.capture import Run
from captiond.captioners.blip.cross import ImageContext
from captiond.captioners.blip.encoder_graphs import (
    FILL_FROM,
    CapturedEncoder,
    chunk_sizes,
    filled_up,
)
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.graphs import SHORT_PROMPT, Graphs, rounded_up
from captiond.captioners.blip.keys_values import KeysValues
from captiond.captioners.blip.search import Search
from captiond.captioners.linear import MakeLinear, PackedLinear, PlainLinear
from captiond.captioners.logits import BannedTokens
from captiond.captioners.sequences import Sequences, SpecialTokens
from captiond.jobs import Generation
from tests.combinations import combinations
from tests.model.encoding import EncodingOnce
from tests.model.test_search import (
    LIMITS,
    MODES,
    PROMPTS,
    generate,
    generated,
    images,
    random_weights,
    scenes,
    texts_of,
)

__all__ = ["random_weights", "scenes"]  # fixtures

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
        self.forward = EncodingOnce(model, make, absorb=absorb)
        self.captures, self.fails = 0, False
        tokens = SpecialTokens(text.bos_token_id, text.sep_token_id, text.pad_token_id)
        encoder = CapturedEncoder(self.forward, lambda run: run)
        self.search = Search(Graphs(self.forward, encoder, self._capture, CPU), tokens)

    def _capture(self, run: Run) -> Run:
        if self.fails:
            self.fails = False
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.captures += 1
        run()  # as before a real capture, which must not change any result
        return run

    def __call__(
        self, pixels: torch.Tensor, prompt: tuple[int, ...], generation: Generation
    ) -> Sequences:
        return self.search(pixels, torch.tensor([0, *prompt]), generation)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("prompt", "generation", "sizes"),
    combinations(PROMPTS, MODES, [(17, 1, 17), (7, 3, 7)]),
    ids=str,
)
def test_the_tokens_are_those_of_generate(
    scenes: BlipForConditionalGeneration,
    prompt: tuple[int, ...],
    generation: Generation,
    sizes: tuple[int, ...],
) -> None:
    """The last batch uses again what was captured for the first one."""
    searcher, config = Searcher(scenes), scenes.config
    vision: Any = config.vision_config
    for size in sizes:
        pixels = images(size, vision.image_size)
        sequences = searcher(pixels, prompt, generation)
        ours = texts_of(scenes, sequences.tokens.flatten(0, 1))
        assert ours == generated(scenes, pixels, prompt, generation)


@torch.inference_mode()
@pytest.mark.parametrize("generation", LIMITS, ids=str)
def test_banned_tokens_are_masked_between_captured_steps(
    random_weights: BlipForConditionalGeneration, generation: Generation
) -> None:
    searcher, pixels, prompt = Searcher(random_weights), images(5, 96), torch.tensor([0, 7])
    first = searcher(pixels, (7,), generation).tokens.flatten(0, 1)
    sequences = {tuple(text[2:4]) for text in texts_of(random_weights, first)}
    banned = tuple(sorted({*sequences, (texts_of(random_weights, first)[0][-1],)}))
    bans = BannedTokens.on(CPU, banned, 500)
    for _ in range(2):  # the second time, the steps are captured already
        ours = searcher.search(pixels, prompt, generation, bans).tokens.flatten(0, 1)
        assert texts_of(random_weights, ours) == generate(
            random_weights, pixels, (7,), generation, bad_words_ids=[list(ids) for ids in banned]
        )


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


@torch.inference_mode()
def test_the_encoder_is_captured_once_for_a_size(scenes: BlipForConditionalGeneration) -> None:
    forward = Forward(deepcopy(scenes), PlainLinear, rows=300)
    vision: Any = scenes.config.vision_config
    assert 4 <= forward.chunk < 8
    captures: list[Run] = []

    def capture(run: Run) -> Run:
        captures.append(run)
        return run

    encode = CapturedEncoder(forward, capture)
    for size, count in ((5, 2), (3, 2), (1, 2), (2, 3), (5, 3)):
        pixels = images(size, vision.image_size)
        torch.testing.assert_close(encode(pixels), forward.encode(pixels))
        assert len(captures) == count
    before = encode(pixels)
    encode(pixels.flip(0))
    torch.testing.assert_close(before, forward.encode(pixels))  # its memory is its own
    encode.release_buffers()
    torch.testing.assert_close(encode(pixels), before)
    assert len(captures) > 3


@given(st.integers(1, 1000), st.sampled_from([1, 4, 64]))
def test_chunks_hold_all_images_and_are_nearly_full(images: int, largest: int) -> None:
    sizes = chunk_sizes(images, largest)
    assert sum(sizes) >= images > sum(sizes[:-1])
    assert all(size == filled_up(size) <= largest for size in sizes)
    assert images - sum(sizes[:-1]) >= FILL_FROM * sizes[-1]


@torch.inference_mode()
def test_a_short_prompt_is_read_by_captured_steps(
    scenes: BlipForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, passes = Searcher(scenes), []
    read, vision = searcher.forward.read_prompt, cast(Any, scenes.config.vision_config)

    def read_prompt(prompt: Tensor, cache: list[KeysValues], context: ImageContext) -> Tensor:
        passes.append(len(prompt))
        return read(prompt, cache, context)

    monkeypatch.setattr(searcher.forward, "read_prompt", read_prompt)
    for prompt in PROMPTS:
        searcher(images(4, vision.image_size), prompt, Generation())
    assert passes == [1 + len(prompt) for prompt in PROMPTS if 1 + len(prompt) > SHORT_PROMPT]


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

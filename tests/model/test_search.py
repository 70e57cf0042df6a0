"""captiond's search gives the tokens of transformers' `generate`, one by one, in every mode."""

from copy import deepcopy
from dataclasses import asdict
from functools import cache
from typing import Any

import pytest
import torch
from transformers.models.blip.configuration_blip import BlipConfig
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.by_transformers import required_search
from captiond.captioners.blip.forward import USUAL, Forward
from captiond.captioners.blip.search import Search
from captiond.captioners.choices import Choices
from captiond.captioners.files import EMBEDDED
from captiond.captioners.linear import Int8Linear, MakeLinear, PackedLinear, PlainLinear
from captiond.captioners.logits import BannedTokens
from captiond.captioners.mkl import MklLinear, usable
from captiond.captioners.sequences import Sequences, SpecialTokens
from captiond.captioners.spelling import Tokens
from captiond.jobs import Generation, SearchRules
from tests.combinations import combinations
from tests.model.encoding import EncodingOnce, encoding_once

SIZES = (1, 3, 7, 17)
# Two scores that are closer than this, in double precision, are a near tie: the order of additions
# in fp32 decides between them. Scores of these weights are around 10, and rounding in the products
# of seven layers moves them by up to 4e-5.
NEAR_TIE = 1e-4
MOST_TIES = 1  # captions of a batch that a near tie may change
PAD, END = 0, 2
PROMPTS = ((), (7, 11), (20, 9, 33, 8, 15))  # after the first token
MODES = (
    Generation(),
    Generation(max_new_tokens=1),
    Generation(max_new_tokens=5),
    Generation(repetition_penalty=1.3),
    Generation(repetition_penalty=0.7, max_new_tokens=8),
    Generation(min_new_tokens=12),
    Generation(num_beams=2),
    Generation(num_beams=3, max_new_tokens=7),
    Generation(num_beams=4, num_captions=3),
    Generation(num_beams=8, num_captions=5, repetition_penalty=1.2, min_new_tokens=5),
)
WAYS: dict[str, tuple[MakeLinear, Choices]] = {
    "oneDNN": (PackedLinear, Choices(cross="fused")),
    "MKL": (MklLinear, Choices(attention="fused", cross="fused")),
    "MKL with keys": (MklLinear, Choices(cross="keys")),
}
LIMITS = (
    Generation(),
    Generation(num_beams=4, num_captions=3),
    Generation(no_repeat_ngram_size=1, rules=SearchRules(finish_tokens=4)),
    Generation(no_repeat_ngram_size=2, repetition_penalty=0.7, min_new_tokens=8),
    Generation(no_repeat_ngram_size=3, num_beams=3, rules=SearchRules(finish_tokens=4)),
)


# Another file uses these two fixtures as well. The models are the same there, and so are the texts
# that `generated` keeps for them.
@pytest.fixture(scope="session")
@cache
def scenes() -> BlipForConditionalGeneration:
    model: BlipForConditionalGeneration = BlipForConditionalGeneration.from_pretrained(
        EMBEDDED["captiond/scenes"]
    )
    return model


@pytest.fixture(scope="session")
@cache
def random_weights() -> BlipForConditionalGeneration:
    """BLIP-base's proportions in small, with logits far enough apart to leave no ties."""
    torch.manual_seed(5)
    shape = {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 2}
    vision = {"num_hidden_layers": 3, "image_size": 96, "patch_size": 6, "initializer_range": 0.2}
    text = {
        "num_hidden_layers": 4,
        "vocab_size": 500,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 2,
        "pad_token_id": PAD,
        "encoder_hidden_size": 96,
        "initializer_range": 0.2,
    }
    config = BlipConfig(vision_config=shape | vision, text_config=shape | text)
    model = BlipForConditionalGeneration(config)
    model.train(mode=False)
    return model


def search(
    model: BlipForConditionalGeneration,
    pixels: torch.Tensor,
    prompt: tuple[int, ...],
    generation: Generation,
    make: MakeLinear = PackedLinear,
    *,
    absorb: bool = False,
    choices: Choices = USUAL,
    banned: tuple[Tokens, ...] = (),
) -> Sequences:
    text: Any = model.config.text_config
    tokens = SpecialTokens(text.bos_token_id, text.sep_token_id, text.pad_token_id)
    forward = forward_of(model, make, absorb=absorb, choices=choices)
    ids = torch.tensor([0, *prompt])
    bans = BannedTokens.on(pixels.device, banned, text.vocab_size) if banned else None
    return Search(forward, tokens)(pixels, ids, generation, bans)


def forward_of(
    model: BlipForConditionalGeneration, make: MakeLinear, *, absorb: bool, choices: Choices
) -> Forward:
    """Return a forward pass, which the tests of one way share as requests do."""
    key = (model, make, absorb, choices)
    if key not in _forwards:
        _forwards[key] = EncodingOnce(model, make, absorb=absorb, choices=choices)
    return _forwards[key]


_forwards: dict[tuple[object, ...], Forward] = {}


def generated(
    model: BlipForConditionalGeneration,
    pixels: torch.Tensor,
    prompt: tuple[int, ...],
    generation: Generation,
) -> list[list[int]]:
    """Return what `generate` makes of images. What several tests compare with is computed once."""
    key = (model, pixels.numpy().tobytes(), prompt, generation)
    if key not in _generated:
        _generated[key] = generate(model, pixels, prompt, generation)
    return _generated[key]


_generated: dict[tuple[object, ...], list[list[int]]] = {}


def generate(
    model: BlipForConditionalGeneration,
    pixels: torch.Tensor,
    prompt: tuple[int, ...],
    generation: Generation,
    **also: object,
) -> list[list[int]]:
    wanted = {**asdict(generation), "max_new_tokens": generation.longest, **also}
    ours = ("prompt", "context", "rules", "vocabulary", "vocabulary_threshold", "rerank")
    for name in ours:  # which `generate` does not have
        del wanted[name]
    wanted["num_return_sequences"] = wanted.pop("num_captions")
    if not generation.min_new_tokens:
        del wanted["min_new_tokens"]
    # `generate` replaces the first id and cuts off the last.
    ids = torch.tensor([[0, *prompt, 0]]).expand(len(pixels), -1).clone()
    untyped: Any = model
    with encoding_once(untyped.vision_model, pixels):
        tokens = untyped.generate(pixel_values=pixels, input_ids=ids, do_sample=False, **wanted)
    return texts_of(model, tokens)


@torch.inference_mode()
@pytest.mark.parametrize("generation", LIMITS, ids=str)
@pytest.mark.parametrize("prompt", PROMPTS[1:], ids=len)
def test_with_banned_tokens(
    random_weights: BlipForConditionalGeneration, prompt: tuple[int, ...], generation: Generation
) -> None:
    """What the model would write is banned: single tokens, ends of pairs, and longer sequences."""
    pixels = images(4, 96)
    banned: dict[Tokens, None] = {}
    for length in (1, 2, 5):
        free = search(random_weights, pixels, prompt, generation, banned=tuple(banned))
        for text in texts_of(random_weights, free.tokens.flatten(0, 1)):
            begin = len(prompt) + length % 3  # some begin with words of the prompt
            if END not in (new := tuple(text[begin : begin + length])) and new:
                banned[new] = None
    assert texts_of(
        random_weights, search(random_weights, pixels, prompt, generation).tokens.flatten(0, 1)
    ) == generated(random_weights, pixels, prompt, generation)
    ours = search(random_weights, pixels, prompt, generation, banned=tuple(banned))
    texts = texts_of(random_weights, ours.tokens.flatten(0, 1))
    ids = [list(tokens) for tokens in banned]
    assert texts == generate(random_weights, pixels, prompt, generation, bad_words_ids=ids)
    assert texts != generated(random_weights, pixels, prompt, generation)
    for text in texts:
        assert not any(ends_in(text, tokens, 1 + len(prompt)) for tokens in banned)


def ends_in(text: list[int], tokens: Tokens, begin: int) -> bool:
    """Return whether a text has these tokens, the last of them after its first `begin` ones."""
    ends = range(max(begin + 1, len(tokens)), len(text) + 1)
    return any(tuple(text[end - len(tokens) : end]) == tokens for end in ends)


def whole(row: list[int], end: int) -> list[int]:
    """Return a text without padding. Beam search of transformers pads with the end token."""
    while row and row[-1] in {PAD, end}:
        row = row[:-1]
    return row


def exact_lead(
    model: BlipForConditionalGeneration,
    image: torch.Tensor,
    begin: int,
    generation: Generation,
    ours: list[int],
    theirs: list[int],
) -> float:
    """Return by how much the best token beats the worse one of two different continuations.

    This is computed in double precision, at the first step where two greedy captions differ.
    `begin` is the number of tokens before the caption.
    """
    untyped: Any = deepcopy(model).double()
    end = untyped.config.text_config.sep_token_id
    step = next(
        n for n in range(begin, len(ours) + len(theirs)) if ours[n : n + 1] != theirs[n : n + 1]
    )
    ids = torch.tensor([ours[:step]])
    features = untyped.vision_model(image[None].double())[0]
    scores = untyped.text_decoder(ids, encoder_hidden_states=features, is_decoder=True).logits[
        0, -1
    ]
    read = sorted({*ids[0].tolist()})
    penalty = generation.repetition_penalty
    scores[read] = torch.where(scores[read] < 0, scores[read] * penalty, scores[read] / penalty)
    if step - begin < generation.min_new_tokens:
        scores[end] = -torch.inf
    chosen = [row[step] if step < len(row) else end for row in (ours, theirs)]
    return float(scores.max() - scores[chosen].min())


def texts_of(model: BlipForConditionalGeneration, tokens: torch.Tensor) -> list[list[int]]:
    text: Any = model.config.text_config
    return [whole(row, text.sep_token_id) for row in tokens.tolist()]


def images(size: int, side: int) -> torch.Tensor:
    return torch.randn(size, 3, side, side, generator=torch.Generator().manual_seed(size))


@torch.inference_mode()
@pytest.mark.parametrize(
    ("size", "prompt", "generation"), combinations(SIZES, PROMPTS, MODES), ids=str
)
def test_on_the_embedded_model(
    scenes: BlipForConditionalGeneration,
    size: int,
    prompt: tuple[int, ...],
    generation: Generation,
) -> None:
    pixels = images(size, 64)
    ours = search(scenes, pixels, prompt, generation).tokens.flatten(0, 1)
    assert texts_of(scenes, ours) == generated(scenes, pixels, prompt, generation)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("size", "way", "generation"),
    combinations(SIZES, [(PlainLinear, False), (PackedLinear, False), (PackedLinear, True)], MODES),
    ids=str,
)
def test_on_random_weights(
    random_weights: BlipForConditionalGeneration,
    size: int,
    way: tuple[MakeLinear, bool],
    generation: Generation,
) -> None:
    """The ways have different linear layers, and absorb the cross-attention or not."""
    make, absorb = way
    pixels, prompt = images(size, 96), PROMPTS[size % len(PROMPTS)]
    ours = search(random_weights, pixels, prompt, generation, make, absorb=absorb)
    assert texts_of(random_weights, ours.tokens.flatten(0, 1)) == generated(
        random_weights, pixels, prompt, generation
    )


@torch.inference_mode()
@pytest.mark.parametrize(
    ("size", "way", "generation"), combinations(SIZES, [*WAYS], MODES), ids=str
)
def test_in_each_way_that_can_be_chosen(
    random_weights: BlipForConditionalGeneration, size: int, way: str, generation: Generation
) -> None:
    make, choices = WAYS[way]
    if make is MklLinear and not usable():
        pytest.skip("this torch has no MKL with packed weights")
    pixels, prompt = images(size, 96), PROMPTS[size % len(PROMPTS)]
    found = search(random_weights, pixels, prompt, generation, make, absorb=True, choices=choices)
    ours = texts_of(random_weights, found.tokens.flatten(0, 1))
    theirs = generated(random_weights, pixels, prompt, generation)
    different = [number for number in range(len(theirs)) if ours[number] != theirs[number]]
    assert len(different) <= MOST_TIES
    for number in different:
        assert generation.num_beams == 1  # beams are compared by sums, for which there is no rule
        lead = exact_lead(
            random_weights,
            pixels[number],
            1 + len(prompt),
            generation,
            ours[number],
            theirs[number],
        )
        assert abs(lead) < NEAR_TIE


@torch.inference_mode()
@pytest.mark.parametrize("generation", MODES, ids=str)
def test_scores_are_mean_log_probabilities(
    scenes: BlipForConditionalGeneration, generation: Generation
) -> None:
    pixels, prompt = images(7, 64), PROMPTS[1]
    sequences = search(scenes, pixels, prompt, generation)
    begin = 1 + len(prompt)
    assert torch.equal(sequences.scores, sequences.scores.sort(1, descending=True).values)
    features = scenes.vision_model(pixels)[0]
    for position, texts in enumerate(sequences.tokens):
        scores = zip(sequences.scores[position], sequences.token_scores[position], strict=True)
        for text, (score, token_scores) in zip(texts, scores, strict=True):
            length = begin + int(text[begin:].ne(PAD).sum())
            tokens = text[None, :length]
            logits = scenes.text_decoder(
                tokens, encoder_hidden_states=features[position : position + 1], is_decoder=True
            ).logits
            likely = logits[0, begin - 1 : -1].log_softmax(-1)
            expected = likely.gather(1, tokens[0, begin:, None])[:, 0]
            assert torch.allclose(token_scores[begin:length], expected, atol=1e-4)
            assert not token_scores[:begin].any()
            assert not token_scores[length:].any()
            # What a penalty leaves, by which beams are ranked, is no probability.
            if generation.repetition_penalty == 1:
                assert abs(float(expected.mean() - score)) < 1e-4


@torch.inference_mode()
def test_a_caption_ends_where_the_models_positions_end(
    random_weights: BlipForConditionalGeneration,
) -> None:
    prompt = tuple(3 + n % 400 for n in range(508))
    sequences = search(random_weights, images(1, 96), prompt, Generation(min_new_tokens=20))
    assert sequences.tokens.shape == (1, 1, 512)


@torch.inference_mode()
def test_int8_gives_one_image_the_same_tokens_in_every_batch(
    scenes: BlipForConditionalGeneration,
) -> None:
    pixels = images(17, 64)
    together = search(scenes, pixels, (), Generation(), Int8Linear).tokens[:, 0]
    alone = [search(scenes, image[None], (), Generation(), Int8Linear) for image in pixels]
    assert texts_of(scenes, together) == [texts_of(scenes, one.tokens[0])[0] for one in alone]


@torch.inference_mode()
@pytest.mark.parametrize("generation", MODES, ids=str)
def test_a_checkpoint_that_asks_for_more_is_left_to_generate(
    scenes: BlipForConditionalGeneration, generation: Generation
) -> None:
    assert required_search(scenes) is None
    pixels, ids = images(7, 64), torch.tensor([0, *PROMPTS[1]])
    ours = search(scenes, pixels, PROMPTS[1], generation)
    asked = scenes.text_decoder.generation_config
    asked.suppress_tokens = [1]  # which no caption has
    try:
        by_generate = required_search(scenes)
        assert by_generate is not None
        theirs = by_generate(pixels, ids, generation)
    finally:
        asked.suppress_tokens = None
    assert texts_of(scenes, theirs.tokens.flatten(0, 1)) == texts_of(
        scenes, ours.tokens.flatten(0, 1)
    )
    assert torch.allclose(theirs.scores, ours.scores, atol=1e-4)
    length = min(theirs.tokens.shape[2], ours.tokens.shape[2])  # without the longer one's padding
    assert torch.allclose(
        theirs.token_scores[..., :length], ours.token_scores[..., :length], atol=1e-4
    )

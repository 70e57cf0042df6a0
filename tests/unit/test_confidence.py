"""Confidences of captions and of their parts, and the characters of tokens."""

from math import log

import pytest

from captiond.confidence import Token, of_caption, of_part, tokens_of
from captiond.jobs import Caption
from captiond.tags import Category, Kind, Tag

PIECES = ["", "a", "red", "circ", "le", ",", "a", "dog", ""]
PROBABILITIES = [1.0, 0.9, 0.5, 0.8, 0.5, 1.0, 0.7, 0.25, 0.6]
TEXT = "a red circle, a dog"


def tokens(prompt: int) -> tuple[Token, ...]:
    return tokens_of(TEXT, PIECES, [log(each) for each in PROBABILITIES], prompt)


def test_tokens_have_their_characters() -> None:
    found = [TEXT[token.start : token.end] for token in tokens(1)]
    assert found == ["a", "red", "circ", "le", ",", "a", "dog", ""]


@pytest.mark.parametrize(
    ("text", "confidence"), [("red circle", 0.2), ("circle", 0.4), ("dog", 0.25), ("a dog", 0.175)]
)
def test_a_part_has_the_probability_of_its_tokens(text: str, confidence: float) -> None:
    start = TEXT.index(text)
    assert of_part(tokens(1), start, start + len(text)) == pytest.approx(confidence, abs=1e-4)


def test_what_the_prompt_says_is_certain() -> None:
    assert of_part(tokens(5), 0, len("a red circle")) == 1
    assert of_caption(tokens(5)) == pytest.approx((1 * 0.7 * 0.25 * 0.6) ** 0.25, abs=1e-4)


def test_a_caption_has_the_mean_probability_of_its_tokens() -> None:
    assert of_caption([Token(0, 1, log(0.9)), Token(1, 1, log(0.4))]) == 0.6
    assert of_caption([]) == 1


def test_a_piece_that_the_decoder_has_changed_has_no_characters() -> None:
    found = tokens_of("they don't run", ["they", "do", "not", "run"], [log(0.5)] * 4, 0)
    assert [(token.start, token.end) for token in found] == [(0, 4), (5, 7), (7, 7), (11, 14)]


def test_tags_of_a_caption_get_confidences() -> None:
    tag = Tag("dog", "dog", Category.ANIMAL, Kind.NOUN, 16, 19)
    (tagged,) = Caption(TEXT, -1, 0.5, tokens(1)).tagged((tag,))
    assert tagged.confidence == 0.25
    assert Caption(TEXT, -1).tagged((tag,)) == (tag,)

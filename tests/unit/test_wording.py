"""What becomes of captions that went wrong, and that good captions stay as they are."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from captiond.captioners.blip.captioner import hallucinations
from captiond.captioners.worded import FEWER, worded
from captiond.confidence import Token, tokens_of
from captiond.jobs import Caption, Generation
from captiond.settings.option_settings import CaptionSettings
from captiond.wording.looping import first_repeat
from captiond.wording.tidying import WORDING_VERSION, TextRules, tidied
from tests.parrot import bad_captions, parroted

RULES = CaptionSettings().text_rules
INVENTED = re.compile(r"\b(?:araf(?!at)|arraf|ray ?-? ?bans?\b|rayban|blury\b|amplisk)")
KINDS = ("loop", "cut", "space", "banned")


def test_there_are_200_bad_captions() -> None:
    assert sum(len(bad_captions(kind)) for kind in KINDS) >= 200


@pytest.mark.parametrize("kind", ["loop", "cut", "space"])
def test_a_bad_caption_becomes_a_better_one(kind: str) -> None:
    for _, text, better in bad_captions(kind):
        caption = Caption(text, -1.0, ended=kind != "cut")
        mended = tidied(caption, RULES)
        assert (mended.text, mended.raw) == (better, None if better == text else text)
        assert tidied(replace(mended, ended=True), RULES).text == better, "once is enough"


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(("text", "better"), [("the the the", "the"), ("on on", "on"), ('"', '"')])
def test_a_caption_is_never_emptied(text: str, better: str, ended: bool) -> None:
    assert tidied(Caption(text, -1.0, ended=ended), RULES).text == better


@pytest.mark.parametrize("beams", [1, 3])
def test_no_spelling_of_an_invented_word_is_left(beams: int) -> None:
    """The model tries every other spelling of a word before it leaves it out."""
    texts = [each.text for each in bad_captions("banned")]
    generation = Generation(num_beams=beams, max_new_tokens=40)
    free = parroted(texts, (), generation)
    assert all(INVENTED.search(text) for text in free)
    for text, written in zip(free, parroted(texts, hallucinations(), generation), strict=True):
        assert not INVENTED.search(written)
        kept = {word for word in text.split() if not INVENTED.match(word)}
        assert kept - set(written.split()) <= {"ray", "ban", "bans", "-"}


@pytest.mark.parametrize(
    "text",
    [
        "a cat next to a cat",
        "a man and a man and a woman",
        "two cows side by side by a fence",
        "a red boat, a red boat and a yellow sun from left to right",
        "a red boat, a red boat, a red boat and a sun",
        "bora bora beach",
        "a choo choo train",
        "a bus that says new york new",
        "a plane taking off",
        "a dog with a toy to play with",
        "a hahaha sign",
        "a number 1111111",
        "a man looking at her",
        "a city with tall buildings in the background",
        "",
    ],
)
def test_a_good_caption_stays_as_it_is(text: str) -> None:
    caption = Caption(text, -1.0, 0.5, tokens_of(text, text.split(), [0.0] * len(text.split()), 0))
    assert tidied(caption, RULES) == caption


def test_each_rule_has_its_own_switch() -> None:
    text = "there is a picture of a t - shirt on a t - shirt on a t - shirt on a"
    caption = Caption(text, -1.0, ended=False)
    assert tidied(caption, TextRules()) == caption
    one_by_one = {
        "end_loops": "there is a picture of a t - shirt",
        "complete_phrases": "there is a picture of a t - shirt on a t - shirt on a t - shirt",
        "repair_spacing": "there is a picture of a t-shirt on a t-shirt on a t-shirt on a",
        "drop_openings": "a t - shirt on a t - shirt on a t - shirt on a",
        "sentences": "There is a picture of a t - shirt on a t - shirt on a t - shirt on a.",
    }
    for rule, expected in one_by_one.items():
        assert tidied(caption, TextRules(**{rule: True})).text == expected
    rules = TextRules(**dict.fromkeys(one_by_one, True))
    mended = tidied(caption, rules)
    assert (mended.text, mended.raw) == ("A t-shirt.", text)


def test_what_the_client_has_written_stays() -> None:
    text = "there is a picture of of a red boat on a boat on the"
    start = text.index("red")
    tokens = (Token(start, start + 3, -0.1), Token(start + 4, len(text), -0.1))
    caption = Caption(text, -1.0, tokens=tokens, ended=False)
    rules = replace(RULES, drop_openings=True)
    mended = tidied(caption, rules, prompted=True)
    assert mended.text == "there is a picture of of a red boat on a boat"
    assert tidied(caption, rules).text == "a red boat on a boat"


def test_tokens_follow_their_words() -> None:
    """Tags have the confidence of the words that they come from, wherever these are now."""
    text = "there is a man ' s hat hat hat on a t - shirt in a"
    pieces = text.split()
    tokens = tokens_of(text, [*pieces, ""], [-0.1 * n for n in range(len(pieces))] + [-9.0], 0)
    caption = Caption(text, -1.0, 0.1, tokens, ended=False)
    mended = tidied(caption, replace(RULES, drop_openings=True, sentences=True))
    assert mended.text == "A man's hat on a t-shirt."
    words = [mended.text[token.start : token.end].lower() for token in mended.tokens]
    assert words == ["a", "man", "'", "s", "hat", "on", "a", "t", "-", "shirt"]
    numbers = [round(token.log_probability * -10) for token in mended.tokens]
    assert numbers == [2, 3, 4, 5, 6, 9, 10, 11, 12, 13]
    assert mended.confidence == pytest.approx(0.472, abs=0.001)  # of these ten
    spaced = tidied(replace(caption, text=text[:23], tokens=tokens[:7], ended=True), RULES)
    assert spaced.confidence == 0.1, "the words are the same"


def test_the_end_of_a_text_that_stays_keeps_its_token() -> None:
    text = "a t - shirt"
    tokens = tokens_of(text, [*text.split(), ""], [-0.1] * 5, 0)
    mended = tidied(Caption(text, -1.0, 0.1, tokens), RULES)
    assert (mended.text, mended.confidence) == ("a t-shirt", 0.1)
    assert [(token.start, token.end) for token in mended.tokens][-1] == (9, 9)


def test_a_loop_that_is_all_there_is_stays() -> None:
    assert tidied(Caption("aaaaaaaaaaaa", -1.0), RULES).text == "aaaaaaaaaaaa"
    assert first_repeat("aaaaaaaaaaaa", 0) is not None


def test_the_captions_of_every_captioner_are_worded() -> None:
    raw = Caption("a t - shirt", -1.0, 0.5)
    wanted = Caption("a t-shirt", -1.0, 0.5, raw="a t - shirt")
    other = replace(raw, text="a shirt")
    caption = worded(lambda *_: [(raw, other), (raw,)], RULES)
    pixels = np.zeros((2, 1, 1, 3), dtype=np.uint8)
    assert caption(pixels, Generation(), None) == [(wanted, other), (wanted,)]


def test_captions_that_the_rules_make_equal_are_one_caption() -> None:
    first = Caption("a cat on a mat", -0.1)
    looped = Caption("a cat on a mat on a mat on a mat on a", -0.2, ended=False)
    other = Caption("a dog", -0.3, notes=("mine",))
    assert tidied(looped, RULES).text == first.text

    def search(*captions: Caption) -> tuple[Caption, ...]:
        caption = worded(lambda *_: [captions], RULES)
        (found,) = caption(np.zeros((1, 1, 1, 3), np.uint8), Generation(num_captions=3), None)
        return found

    assert search(first, looped, other) == (replace(first, notes=(FEWER,)), other)
    best, second = search(other, looped, first)
    assert best == replace(other, notes=("mine", FEWER))
    assert (second.text, second.score) == (first.text, -0.2), "the better one stays"
    assert search(first, other) == (first, other)


def test_a_change_of_the_rules_is_a_new_version_of_them() -> None:
    """Otherwise captions in the cache would keep the texts of earlier rules."""
    every = TextRules(**dict.fromkeys(TextRules.__dataclass_fields__, True))
    texts = [each.text for kind in KINDS for each in bad_captions(kind)]
    tidy = [
        tidied(Caption(text, -1.0, ended=ended), rules).text
        for text in texts
        for ended in (True, False)
        for rules in (RULES, every)
    ]
    digest = hashlib.sha256("\n".join(tidy).encode()).hexdigest()[:16]
    assert (WORDING_VERSION, digest) == (1, "972604a045973c88"), (
        "a rule of captiond/wording has changed: raise WORDING_VERSION, and write both here; "
        "if only captions were added to bad_captions.txt, write the new digest here"
    )

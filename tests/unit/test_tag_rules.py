"""The tag rules, on documents whose annotations each test writes out instead of a pipeline."""

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc

from captiond.tagging.extract import extract_tags
from captiond.tagging.lexicon import Lexicon
from captiond.tagging.phrases import noun_phrases
from captiond.tagging.words import read_words
from captiond.tags import Category, Kind, Tag, TagFilter
from tests.tagging import ENGLISH_RULES, texts

ENGLISH: Language = spacy.blank("en")
POS = ["NOUN", "PROPN", "ADJ", "NUM", "ADV", "DET", "PRON", "CCONJ", "VERB", "PART", "PUNCT", "X"]


def phrases_of(doc: Doc) -> list[str]:
    phrases = noun_phrases(doc, read_words(doc, Lexicon()))
    return [doc[phrase.start : phrase.end].text for phrase in phrases]


def tags(doc: Doc) -> list[str]:
    return texts(extract_tags(doc, ENGLISH_RULES))


def tagged(annotated: str) -> Doc:
    """Return a Doc of `word/POS` or `word/POS/lemma` items. `~` removes the space before a word."""
    parts = [part.lstrip("~").split("/") for part in annotated.split()]
    glued = [part.startswith("~") for part in annotated.split()[1:]] + [False]
    return Doc(
        ENGLISH.vocab,
        words=[part[0] for part in parts],
        spaces=[not tight for tight in glued],
        pos=[part[1] for part in parts],
        lemmas=[part[-1] if len(part) > 2 else part[0] for part in parts],
        morphs=["VerbForm=Part" if part[1] == "VERB" else "" for part in parts],
    )


def test_the_example_of_the_old_service() -> None:
    doc = tagged(
        "A/DET/a young/ADJ woman/NOUN wearing/VERB/wear a/DET red/ADJ dress/NOUN "
        "standing/VERB/stand in/ADP a/DET beautiful/ADJ garden/NOUN"
    )
    assert tags(doc) == [
        "beautiful garden",
        "dress",
        "garden",
        "red dress",
        "woman",
        "young woman",
    ]


@pytest.mark.parametrize(
    ("annotated", "phrases"),
    [
        ("a/DET brown/ADJ and/CCONJ white/ADJ dog/NOUN", ["brown and white dog"]),
        ("red/ADJ ~,/PUNCT white/ADJ and/CCONJ blue/ADJ flag/NOUN", ["red, white and blue flag"]),
        ("a/DET cat/NOUN and/CCONJ a/DET dog/NOUN", ["cat", "dog"]),
        ("salt/NOUN ~,/PUNCT pepper/NOUN", ["salt", "pepper"]),
        ("a/DET tennis/NOUN racket/NOUN", ["tennis racket"]),
        ("a/DET parked/VERB/park car/NOUN", ["parked car"]),
        ("three/NUM smiling/VERB/smile men/NOUN/man", ["three smiling men"]),
        ("a/DET man/NOUN riding/VERB/ride horses/NOUN/horse", ["man", "horses"]),
        ("cars/NOUN/car parked/VERB/park", ["cars"]),
        ("a/DET brightly/ADV colored/ADJ kite/NOUN", ["brightly colored kite"]),
        ("a/DET snow/NOUN covered/ADJ hill/NOUN", ["snow covered hill"]),
        ("a/DET snow/NOUN ~-/PUNCT ~covered/VERB/cover hill/NOUN", ["snow-covered hill"]),
        ("a/DET two/NUM ~-/PUNCT ~year/NOUN ~-/PUNCT ~old/ADJ girl/NOUN", ["two-year-old girl"]),
        ("a/DET t/NOUN ~-/PUNCT ~shirt/NOUN", ["t-shirt"]),
        ("the/DET woman/NOUN ~'s/PART red/ADJ hat/NOUN", ["woman's red hat"]),
        ("a/DET snow/NOUN -/PUNCT covered/VERB/cover hill/NOUN", ["snow - covered hill"]),
        ("dogs/NOUN/dog –/PUNCT cats/NOUN/cat", ["dogs", "cats"]),
        (
            "a/DET black/ADJ -/PUNCT and/CCONJ -/PUNCT white/ADJ cat/NOUN",
            ["black - and - white cat"],
        ),
        ("a/DET street/NOUN full/ADJ of/ADP cars/NOUN/car", ["street", "cars"]),
        ("it/PRON is/AUX/be blue/ADJ", []),
    ],
)
def test_phrases_from_parts_of_speech(annotated: str, phrases: list[str]) -> None:
    assert phrases_of(tagged(annotated)) == phrases


def parsed() -> Doc:
    """Return "A man riding his red bike" as a parser annotates it."""
    return Doc(
        ENGLISH.vocab,
        words=["A", "man", "riding", "his", "red", "bike"],
        pos=["DET", "NOUN", "VERB", "PRON", "ADJ", "NOUN"],
        lemmas=["a", "man", "ride", "his", "red", "bike"],
        heads=[1, 1, 1, 5, 5, 2],
        deps=["det", "ROOT", "acl", "poss", "amod", "dobj"],
    )


def test_phrases_from_a_parser() -> None:
    assert phrases_of(parsed()) == ["A man", "his red bike"]
    assert tags(parsed()) == ["bike", "man", "red bike"]


def test_tags_have_the_characters_that_they_come_from() -> None:
    assert extract_tags(tagged("two/NUM red/ADJ cars/NOUN/car"), ENGLISH_RULES) == (
        Tag("red car", "car", Category.VEHICLE, Kind.PHRASE, 4, 12),
        Tag("car", "car", Category.VEHICLE, Kind.NOUN, 8, 12),
        Tag("red", "red", Category.COLOUR, Kind.ADJECTIVE, 4, 7),
    )


@pytest.mark.parametrize(
    ("annotated", "expected"),
    [
        ("a/DET parked/VERB/park car/NOUN", ["parked"]),
        ("the/DET door/NOUN is/AUX/be open/ADJ", ["open"]),
        ("the/DET taller/ADJ/tall man/NOUN", ["tall"]),
        ("several/ADJ other/ADJ boats/NOUN/boat", []),
        ("a/DET snow/NOUN -/PUNCT covered/ADJ hill/NOUN", []),
        ("a/DET close/ADJ up/ADV of/ADP a/DET cat/NOUN", ["close"]),
    ],
)
def test_adjectives_are_tags_of_their_own_kind(annotated: str, expected: list[str]) -> None:
    all_tags = extract_tags(tagged(annotated), ENGLISH_RULES)
    assert texts(all_tags, TagFilter(kinds=(Kind.ADJECTIVE,))) == expected
    assert not set(expected).intersection(texts(all_tags))


@pytest.mark.parametrize(
    ("annotated", "first"),
    [
        ("a/DET man/NOUN riding/VERB/ride a/DET bike/NOUN", "man"),
        ("a/DET group/NOUN of/ADP people/NOUN in/ADP a/DET park/NOUN", "people"),
        ("a/DET photo/NOUN of/ADP a/DET pile/NOUN of/ADP old/ADJ shoes/NOUN/shoe", "old shoe"),
        ("the/DET top/NOUN of/ADP a/DET building/NOUN", "building"),
        ("a/DET couple/NOUN riding/VERB/ride a/DET scooter/NOUN", "couple"),
        ("a/DET crowd/NOUN", "crowd"),
    ],
)
def test_the_subject_comes_first(annotated: str, first: str) -> None:
    assert extract_tags(tagged(annotated), ENGLISH_RULES)[0].tag == first


@pytest.mark.parametrize(
    ("annotated", "expected"),
    [
        ("Two/NUM Dogs/NOUN/dog", ["dog"]),
        ("several/ADJ other/ADJ boats/NOUN/boat", ["boat"]),
        (
            "a/DET tv/NOUN",
            ["tv"],
        ),  # a tag of a phrase may have two letters, a noun on its own may not
        ("a/DET x/NOUN", []),
        ("vitamin/NOUN c/NOUN", ["vitamin"]),
        ("a/DET photograph/NOUN of/ADP things/NOUN/thing", []),
        ("an/DET image/NOUN of/ADP stuff/NOUN", []),
        ("old/ADJ photos/NOUN/photo", ["old photo"]),
        ("London/PROPN", ["london"]),
        ("blue/ADJ pyjamas/NOUN/pyjama", ["blue pyjamas", "pyjamas"]),  # a noun of the lexicon
        ("two/NUM walruses/NOUN/walrus", ["walrus"]),
        ("the/DET taller/ADJ/tall man/NOUN", ["man", "tall man"]),
        ("a/DET parked/VERB/park car/NOUN", ["car", "parked car"]),
        ("😀😀😀/NOUN", []),
        ("red/ADJ 😀😀/SYM cup/NOUN", ["cup"]),
        # a word of place alone is not a tag
        ("to/ADP the/DET left/NOUN of/ADP a/DET yellow/ADJ sun/NOUN", ["sun", "yellow sun"]),
        ("on/ADP the/DET other/ADJ side/NOUN", []),
        ("the/DET top/NOUN left/ADJ corner/NOUN", ["corner", "left corner"]),
        ("a/DET side/NOUN table/NOUN", ["table"]),
        ("his/PRON back/NOUN", ["back"]),  # a word of place with a possessive is a tag
        (
            "a/DET black/ADJ top/NOUN",
            ["black top", "top"],
        ),  # the head is kept, even if it is a stop word
        ("a/DET television/NOUN show/NOUN", ["show", "television", "television show"]),
        ("a/DET t/NOUN ~-/PUNCT ~shirt/NOUN", ["shirt", "t-shirt"]),
        ("a/DET red/ADJ t/NOUN -/PUNCT shirt/NOUN", ["red t-shirt", "shirt"]),
        (
            "seven/NUM dogs/NOUN/dog",
            ["dog"],
        ),  # "seven" is a count, although spaCy does not list it as a stop word
    ],
)
def test_rules(annotated: str, expected: list[str]) -> None:
    assert tags(tagged(annotated)) == expected


words = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8)
tokens = st.lists(st.tuples(words, st.sampled_from(POS), st.booleans()), max_size=40)


@given(tokens)
def test_any_document_has_well_formed_tags(drawn: list[tuple[str, str, bool]]) -> None:
    texts, pos, spaces = zip(*drawn, strict=True) if drawn else ((), (), ())
    doc = Doc(ENGLISH.vocab, words=[*texts], spaces=[*spaces], pos=[*pos], lemmas=[*texts])
    tag_texts = tags(doc)
    assert tag_texts == sorted(set(tag_texts))
    assert not ENGLISH_RULES.words.generic.intersection(tag_texts)
    for tag in extract_tags(doc, ENGLISH_RULES):
        assert tag.tag == tag.tag.strip().lower() != ""
        assert tag.start is not None
        assert tag.end is not None
        assert 0 <= tag.start < tag.end <= len(doc.text)


@given(tokens)
def test_phrases_never_overlap_and_end_with_a_noun(drawn: list[tuple[str, str, bool]]) -> None:
    texts, pos, spaces = zip(*drawn, strict=True) if drawn else ((), (), ())
    doc = Doc(ENGLISH.vocab, words=[*texts], spaces=[*spaces], pos=[*pos])
    last = 0
    for start, end, head in noun_phrases(doc, read_words(doc, Lexicon())):
        assert start >= last
        last = end
        assert head is not None
        assert start <= head < end

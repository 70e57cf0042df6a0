"""The shipped English pipeline: its size, its tags, and that no text makes tagging fail."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from structlog.testing import capture_logs

from captiond.errors import ModelBroken, ModelMissing
from captiond.tagging.embedded import EMBEDDED
from captiond.tagging.pipelines import fingerprint, load_pipeline
from captiond.tagging.tagger import MAX_CHARACTERS, Tagger
from tests.tagging import ENGLISH_RULES, tags_of

ENGLISH = "captiond/english"
MEGABYTE = 1_000_000

# Captions in the style of BLIP, each with all tags that the rules demand.
CAPTIONS = {
    "A young woman wearing a red dress standing in a beautiful garden": (
        "beautiful garden, dress, garden, red dress, woman, young woman"
    ),
}


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load("en", ENGLISH)


def test_it_is_small() -> None:
    files = [path for path in EMBEDDED[ENGLISH].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12 * MEGABYTE


@pytest.mark.parametrize(("caption", "expected"), CAPTIONS.items())
def test_captions(tagger: Tagger, caption: str, expected: str) -> None:
    assert tags_of(tagger, [caption]) == [expected.split(", ")]


@pytest.mark.parametrize(
    "caption",
    ["a stop sign on the corner", "exit sign above a door", "a black cat in london"],
)
def test_capitals_make_no_difference(tagger: Tagger, caption: str) -> None:
    (expected,) = tags_of(tagger, [caption])
    assert tags_of(tagger, [caption.upper(), caption.title()]) == [expected, expected]


def test_a_tag_has_its_place_in_a_caption_with_capitals(tagger: Tagger) -> None:
    caption = "İzmir AND A RED CAR"  # this i has two characters in lower case
    ((*_, phrase),) = (
        [tag for tag in tags if tag.tag == "red car"] for tags in tagger.tag([caption])
    )
    assert caption[phrase.start : phrase.end] == "RED CAR"


def test_nouns_that_only_look_like_plurals(tagger: Tagger) -> None:
    nouns = ["barracks", "gymnastics", "pyjamas", "slacks", "suspenders", "sweatpants", "walrus"]
    assert tags_of(tagger, [f"a man with {noun}" for noun in nouns]) == [
        sorted(["man", noun]) for noun in nouns
    ]
    assert "santa claus" in tags_of(tagger, ["a man dressed as santa claus"])[0]
    assert tags_of(tagger, ["two shirts and three foxes"]) == [["fox", "shirt"]]


def test_the_results_of_a_batch_are_in_its_order(tagger: Tagger) -> None:
    captions = list(CAPTIONS) * 10
    assert tags_of(tagger, captions) == [tags_of(tagger, [caption])[0] for caption in captions]


def test_blank_captions_have_no_tags(tagger: Tagger) -> None:
    assert tags_of(tagger, [None, "", " \n\t", "a red car"]) == [[], [], [], ["car", "red car"]]
    assert tags_of(tagger, []) == []


def test_a_long_caption_is_cut(tagger: Tagger) -> None:
    within = "a cat " + "x" * (MAX_CHARACTERS - 12)
    assert "dog" in tags_of(tagger, [f"{within} a dog"])[0]
    assert "dog" not in tags_of(tagger, [f"{within}y a dog"])[0]
    assert "cat" in tags_of(tagger, ["a cat and " + "a dog " * 20_000])[0]


@given(st.text(max_size=300))
def test_no_text_makes_it_fail(tagger: Tagger, text: str) -> None:
    (tags,) = tags_of(tagger, [text])
    assert tags == sorted(set(tags))
    assert tagger.failures == 0


@pytest.mark.parametrize(
    "text",
    [
        "a man 👨‍👩‍👧 riding a 🏄 wave",
        "😀😀😀",
        "رجل يركب موجة",
        "‮a red car‬",
        "a\x00 cat\x1b[31m on\x07 a\x7f mat",
        "���",
        "e" + "\u0301" * 500,
        "-" * 900,
        "a " * 500,
        "red " * 250,
        "red, " * 200 + "car",
    ],
)
def test_odd_text_does_not_make_it_fail(tagger: Tagger, text: str) -> None:
    assert len(tags_of(tagger, [text, "a red car"])) == 2
    assert tags_of(tagger, [text, "a red car"])[1] == ["car", "red car"]
    assert tagger.failures == 0


@Language.component("fails_on_boom")
def fails_on_boom(doc: Doc) -> Doc:
    if "boom" in doc.text:
        raise RuntimeError("boom")
    return doc


def test_a_caption_that_cannot_be_tagged_affects_no_other() -> None:
    nlp = load_pipeline("en", ENGLISH)
    nlp.add_pipe("fails_on_boom")
    tagger = Tagger(nlp, ENGLISH_RULES, "test")
    with capture_logs() as logs:
        tags = tags_of(tagger, ["a red car", "a boom", None, "a dog"])
    assert tags == [["car", "red car"], [], [], ["dog"]]
    assert tagger.failures == 1
    assert [entry["caption"] for entry in logs if entry["event"] == "tagging_failed"] == ["a boom"]


def test_it_forgets_the_words_of_captions() -> None:
    nlp = load_pipeline("en", ENGLISH)
    tagger = Tagger(nlp, ENGLISH_RULES, "test")
    tags_of(tagger, [f"a blorf{number} and a zint{number}" for number in range(100)])
    assert not [word for word in nlp.vocab.strings if "blorf" in word or "zint" in word]


# ---------------------------------------------------------------- loading a pipeline


def test_the_tokenizer_is_that_of_the_file() -> None:
    """It is filled from the file alone. spaCy fills it with the exceptions of English first."""
    tokenizers: list[Any] = [
        nlp.tokenizer for nlp in (load_pipeline("en", ENGLISH), spacy.load(EMBEDDED[ENGLISH]))
    ]
    ours, usual = tokenizers
    assert ours.to_bytes() == usual.to_bytes()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED[ENGLISH], tmp_path / "pipeline"))


def test_a_folder_can_be_a_pipeline(tagger: Tagger, copied: Path) -> None:
    other = Tagger.load("en", str(copied))
    assert tags_of(other, ["a red car"]) == [["car", "red car"]]
    assert other.fingerprint != tagger.fingerprint


def test_the_fingerprint_depends_on_the_files_but_not_on_the_card(copied: Path) -> None:
    nlp = load_pipeline("en", str(copied))
    before = fingerprint("en", str(copied), nlp)
    assert before == fingerprint("en", str(copied), nlp)
    card = copied / "README.md"
    card.write_text("another")
    assert before == fingerprint("en", str(copied), nlp)
    tokenizer = copied / "tokenizer"
    tokenizer.write_bytes(tokenizer.read_bytes() + b"x")
    assert before != fingerprint("en", str(copied), nlp)


@pytest.mark.parametrize("name", ["en_nothing_sm", "no/such/folder", "", "captiond/klingon"])
def test_a_pipeline_that_does_not_exist(name: str) -> None:
    with pytest.raises(ModelMissing, match=r"tags\.pipelines\.en = "):
        load_pipeline("en", name)


def test_the_message_says_how_to_install_a_package() -> None:
    with pytest.raises(ModelMissing, match="-m spacy download en_nothing_sm"):
        load_pipeline("en", "en_nothing_sm")


@pytest.mark.parametrize(
    "file", ["meta.json", "config.cfg", "morphologizer/model", "lemmatizer/lookups/lookups.bin"]
)
def test_a_damaged_pipeline_is_broken(copied: Path, file: str) -> None:
    content = (copied / file).read_bytes()
    (copied / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelBroken):
        load_pipeline("en", str(copied))

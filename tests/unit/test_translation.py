"""What becomes of captions and tags in another language, without a model."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from captiond.jobs import (
    NO_CONTEXT,
    TRANSLATION_STEPS,
    Caption,
    Captioned,
    Generation,
    Lane,
    Options,
    SpooledImage,
)
from captiond.messages import Work
from captiond.tags import Category, Kind, Tag, TagFilter, TagOptions
from captiond.translation.degenerate import is_degenerate
from captiond.translation.dictionary import DictionaryEntry, TagDictionary
from captiond.translation.translated_result import NO_HEDGE
from captiond.translation.translations import (
    DEGENERATE,
    UNAVAILABLE,
    Translation,
    Untranslated,
    translated,
    with_translation,
)
from captiond.translation.translator import TOO_LONG, Sentence
from captiond.worker.recipe import Recipe

GERMAN = TagDictionary({
    "cat": DictionaryEntry("Katze", gender="f"),
    "dog": DictionaryEntry("Hund", gender="m"),
    "red": DictionaryEntry("rot", place="before", forms={"m": "roter", "f": "rote"}),
    "possibly": DictionaryEntry("möglicherweise"),
})  # fmt: skip
RECIPE = Recipe(
    "m",
    "f",
    lambda language: language or "en",
    Generation(),
    TagFilter(),
    True,
    hedge_below=0.4,
    translator_fingerprint={"de": "opus", "fr": "other"}.get,
    dictionaries={"de": GERMAN},
)
WORK = Work("t", Lane.BULK, SpooledImage("s", 0, 1, "sha"))
CAT = Tag("cat", "cat", Category.ANIMAL, Kind.NOUN, 2, 5)
RED_CAT = Tag("red cat", "cat", Category.ANIMAL, Kind.PHRASE, 0, 7)
ENGLISH = Captioned("a red cat", (), "m", 4, 3, tag_details=(RED_CAT, CAT), confidence=0.9)


def work(**options: object) -> Work:
    return replace(WORK, options=replace(Options(), **options))  # type: ignore[arg-type]


class Shouting:
    """A translator that shouts, and notes what it was given."""

    def __init__(self, **others: Sentence | None) -> None:
        self.asked: list[tuple[list[str], str]] = []
        self._others = others

    def __call__(self, texts: Sequence[str], language: str) -> list[Sentence | None]:
        self.asked.append((list(texts), language))
        shouted = {text: Sentence(text.upper()) for text in texts}
        return [self._others.get(text, shouted[text]) for text in texts]


# ---------------------------------------------------------------- degenerate translations


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        ("a cat", ""),
        ("a cat", "..."),
        ("a cat", "Katze Katze Katze Katze"),
        ("a hat on a table", "ein Hut auf einem Hut auf einem Hut auf einem Hut auf"),
        ("a cat", "eine Katze und viele andere Dinge, von denen dort niemand jemals etwas sah"),
    ],
)
def test_a_translation_that_makes_no_sense(text: str, translation: str) -> None:
    assert is_degenerate(text, Sentence(translation))


def test_a_translation_that_does_not_end_makes_no_sense() -> None:
    assert is_degenerate("a cat", Sentence("eine Katze", ended=False))
    assert is_degenerate("a cat", TOO_LONG)


@pytest.mark.parametrize(
    ("text", "translation"),
    [
        ("a cat", "eine Katze"),
        ("two cats next to two cats", "zwei Katzen neben zwei Katzen"),
        ("a cat and a cat and a dog", "eine Katze und eine Katze und ein Hund"),
        ("a sign that says no no no no", "ein Schild mit nein nein nein nein"),
        ("a cat", "猫"),
        ("t-shirt", "camiseta de manga corta"),
    ],
)
def test_a_translation_that_makes_sense(text: str, translation: str) -> None:
    assert not is_degenerate(text, Sentence(translation))


# ---------------------------------------------------------------- the captions of a batch


def captions(*texts: str) -> tuple[Caption, ...]:
    return tuple(Caption(text, -0.5) for text in texts)


def test_all_captions_of_a_language_are_one_batch_and_each_text_is_translated_once() -> None:
    translate = Shouting()
    images = [captions("a", "b"), captions("a"), captions("c"), captions("b"), captions("d")]
    found = translated(images, ["de", "de", "fr", None, "fr"], translate)
    assert translate.asked == [(["a", "b"], "de"), (["c", "d"], "fr")]
    assert found == [
        Translation("de", ("A", "B")),
        Translation("de", ("A",)),
        Translation("fr", ("C",)),
        None,
        Translation("fr", ("D",)),
    ]


def test_an_image_without_memory_or_with_a_blank_caption_is_not_translated() -> None:
    translate = Shouting()
    assert translated([(), captions(" ")], ["de", "de"], translate) == [None, None]
    assert translate.asked == [([], "de")]


def test_an_opening_is_left_out_of_the_alternative_text() -> None:
    (found,) = translated([captions("a picture of a cat")], ["de"], Shouting())
    assert found == Translation("de", ("A PICTURE OF A CAT",), "A CAT")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (None, Untranslated(UNAVAILABLE, passing=True)),
        (Sentence("no " * 20), Untranslated(DEGENERATE, passing=False)),
    ],
)
def test_one_failure_leaves_the_image_in_english_and_no_other_one(
    sentence: Sentence | None, expected: Untranslated
) -> None:
    images = [captions("a", "b"), captions("c")]
    found = translated(images, ["de", "de"], Shouting(b=sentence))
    assert found == [expected, Translation("de", ("C",))]
    whole = with_translation(replace(ENGLISH, notes=("first",)), found[0])
    assert whole == replace(ENGLISH, notes=("first", expected.note))


def test_the_english_captions_stay() -> None:
    several = replace(ENGLISH, captions=captions("a red cat", "cat"), raw_caption="a red cat cat")
    whole = with_translation(several, Translation("de", ("eine rote Katze", "Katze"), "Katze!"))
    assert (whole.caption, whole.caption_en) == ("eine rote Katze", "a red cat")
    assert (whole.caption_language, whole.described) == ("de", "Katze!")
    assert whole.raw_caption == "a red cat cat"
    assert [(each.text, each.english, each.raw) for each in whole.captions] == [
        ("eine rote Katze", "a red cat", "a red cat"),
        ("Katze", "cat", "cat"),
    ]
    assert with_translation(ENGLISH, Translation("de", ("x",))).raw_caption == "a red cat"


# ---------------------------------------------------------------- results


def in_german(**changes: object) -> Captioned:
    whole = with_translation(ENGLISH, Translation("de", ("eine rote Katze",)))
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_tags_are_translated_and_filters_compare_english_tags() -> None:
    result = RECIPE.selected(in_german(), work(caption_language="de"))
    assert result.tags == ("Katze", "rote Katze")
    assert [(each.tag, each.lemma, each.english) for each in result.tag_details] == [
        ("rote Katze", "Katze", "red cat"),
        ("Katze", "Katze", "cat"),
    ]
    denied = work(caption_language="de", tags=TagOptions(deny=("red *",)))
    assert RECIPE.selected(in_german(), denied).tags == ("Katze",)
    assert RECIPE.selected(ENGLISH, WORK).tags == ("cat", "red cat")


def test_an_alternative_text_is_in_the_language_of_the_caption() -> None:
    asked = work(caption_language="de")
    assert RECIPE.selected(in_german(), asked).alt_text == "Eine rote Katze."
    assert RECIPE.selected(in_german(described="rote Katze"), asked).alt_text == "Rote Katze."
    unsure = RECIPE.selected(in_german(confidence=0.1), asked)
    assert unsure.alt_text == "Möglicherweise: eine rote Katze."
    assert unsure.notes == ()


def test_without_a_word_for_possibly_a_note_says_that_the_text_is_not_hedged() -> None:
    french = with_translation(
        replace(ENGLISH, confidence=0.1), Translation("fr", ("un chat rouge",))
    )
    result = RECIPE.selected(french, work(caption_language="fr"))
    assert (result.alt_text, result.notes) == ("Un chat rouge.", (NO_HEDGE,))
    assert result.tags == ("cat", "red cat"), "there is no dictionary"


@pytest.mark.parametrize(("language", "stop"), [("zh", "。"), ("ja", "。"), ("es", ".")])
def test_a_sentence_ends_as_its_language_ends_sentences(language: str, stop: str) -> None:
    for text in ("猫", f"猫{stop}"):
        whole = with_translation(ENGLISH, Translation(language, (text,)))
        assert RECIPE.selected(whole, work(caption_language=language)).alt_text == f"猫{stop}"


# ---------------------------------------------------------------- the recipe


def test_the_key_of_a_caption_has_its_language_and_the_translator() -> None:
    german, french = work(caption_language="de"), work(caption_language="fr")
    keys = {RECIPE.cache_key(each) for each in (WORK, german, french)}
    assert len(keys) == 3
    other = replace(RECIPE, translator_fingerprint={"de": "newer"}.get)
    assert other.cache_key(german) not in keys
    assert other.cache_key(WORK) in keys
    assert RECIPE.cache_key(work(caption_language="en")) == RECIPE.cache_key(WORK)


def test_the_settings_choose_the_language_of_requests_that_do_not() -> None:
    recipe = replace(RECIPE, language="de")
    assert recipe.language_of(WORK) == "de"
    assert recipe.cache_key(WORK) == RECIPE.cache_key(work(caption_language="de"))
    assert recipe.language_of(work(caption_language="en")) is None


def test_a_language_without_a_working_model_is_english_with_a_note() -> None:
    asked = work(caption_language="it")
    assert RECIPE.language_of(asked) is None
    assert RECIPE.cache_key(asked) == RECIPE.cache_key(WORK)
    assert RECIPE.selected(ENGLISH, asked).notes == (UNAVAILABLE,)
    noted = replace(ENGLISH, notes=(UNAVAILABLE,))
    assert RECIPE.selected(noted, asked).notes == (UNAVAILABLE,), "a note comes once"


def test_the_tags_of_a_translated_caption_are_made_by_the_english_pipeline() -> None:
    assert RECIPE.tag_language_of(work(caption_language="de")) == "en"
    assert RECIPE.tag_language_of(work(language="nl")) == "nl"
    assert RECIPE.tag_language_of(WORK) is None


def test_a_translation_is_a_part_of_the_cost() -> None:
    usual = Options().cost(Generation())
    assert usual == Generation().cost == RECIPE.cost_of(WORK)
    assert Options(caption_language="en").cost(Generation()) == usual
    assert Options(caption_language="de").cost(Generation()) == usual + TRANSLATION_STEPS
    assert Options().cost(Generation(), "de") == usual + TRANSLATION_STEPS
    assert Options(caption_language="en").cost(Generation(), "de") == usual
    several = Generation(num_beams=3, num_captions=3)
    assert Options(several, caption_language="de").cost(Generation()) == (
        several.cost + 3 * TRANSLATION_STEPS
    )
    assert RECIPE.cost_of(work(caption_language="it")) == usual, "it is not translated"


def test_notes_of_context_and_language_are_both_there() -> None:
    recipe = replace(RECIPE, uses_context=False)
    asked = work(caption_language="it", generation=Generation(context="place: Lisbon"))
    assert recipe.selected(ENGLISH, asked).notes == (NO_CONTEXT, UNAVAILABLE)

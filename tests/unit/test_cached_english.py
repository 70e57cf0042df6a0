"""A caption that the cache has in English is translated, and its image is not captioned again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from captiond.jobs import Caption, Captioned, Generation
from captiond.store.engine import Engine
from captiond.translation.translations import (
    DEGENERATE,
    UNAVAILABLE,
    Translation,
    in_english,
    with_translation,
)
from captiond.translation.translator import Sentence
from captiond.translation.translators import Translators
from captiond.worker.cached_english import CachedTranslator
from captiond.worker.known import KnownCaptions
from captiond.worker.reporting import Reporter
from captiond.worker.runner import TranslationRunner
from tests.unit.test_completion import channels
from tests.unit.test_translation import ENGLISH, RECIPE, WORK, captions, work

pytestmark = pytest.mark.anyio
IN_GERMAN = work(caption_language="de")
CACHED = replace(ENGLISH, cached=True)
SEVERAL = replace(CACHED, captions=captions("a red cat", "cat"), raw_caption="a red cat cat")


class Loud:
    """A translator that shouts, and notes the texts of each batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def translate(self, texts: Sequence[str]) -> list[Sentence]:
        self.batches.append(list(texts))
        return [Sentence("" if text == "nonsense" else text.upper()) for text in texts]


@asynccontextmanager
async def translating(loud: Loud) -> AsyncIterator[CachedTranslator]:
    async with channels() as (_, theirs):
        with ThreadPoolExecutor(1) as thread:
            runner = TranslationRunner(Translators(_loaded={"de": loud}), thread)
            yield CachedTranslator(RECIPE, runner, Reporter(theirs, "model0-1f"))


async def test_the_english_caption_of_the_cache_is_translated() -> None:
    loud = Loud()
    async with translating(loud) as translator:
        finished = await translator.finished(IN_GERMAN, CACHED)
    assert finished.whole == replace(
        ENGLISH, caption="A RED CAT", raw_caption="a red cat", caption_en="a red cat",
        caption_language="de",
    )  # fmt: skip
    assert isinstance(finished.outcome, Captioned)
    assert finished.outcome.cached, "the image was not captioned"
    assert finished.outcome.tags == ("Katze", "rote Katze")
    assert finished.timings.translation > 0
    assert loud.batches == [["a red cat"]]


async def test_all_captions_are_translated_and_images_that_wait_are_one_batch() -> None:
    loud = Loud()
    async with translating(loud) as translator:
        asked = (translator.finished(IN_GERMAN, SEVERAL) for _ in range(50))
        finished = await asyncio.gather(*asked)
    assert len(loud.batches) <= 2
    for each in finished:
        assert each.whole is not None
        assert [caption.text for caption in each.whole.captions] == ["A RED CAT", "CAT"]
        assert each.whole.raw_caption == "a red cat cat"


async def test_a_translation_that_fails_for_a_passing_reason_is_not_stored() -> None:
    async with translating(Loud()) as translator:
        unavailable = await translator.finished(work(caption_language="fr"), CACHED)
        nonsense = await translator.finished(IN_GERMAN, replace(CACHED, caption="nonsense"))
    assert isinstance(unavailable.outcome, Captioned)
    assert (unavailable.whole, unavailable.outcome.notes) == (None, (UNAVAILABLE,))
    assert nonsense.whole is not None
    assert (nonsense.whole.caption, nonsense.whole.notes) == ("nonsense", (DEGENERATE,))


@pytest.mark.parametrize("whole", [ENGLISH, replace(SEVERAL, cached=False)], ids=["one", "several"])
def test_a_translated_caption_has_its_english_one(whole: Captioned) -> None:
    spoken = Translation("de", ("x", "y")[: len(whole.captions) or 1], described="z")
    assert in_english(with_translation(whole, spoken)) == whole


def test_the_raw_captions_stay_those_of_the_model() -> None:
    several = replace(ENGLISH, captions=(Caption("cat", -1.0, raw="cat cat"),))
    assert in_english(with_translation(several, Translation("de", ("Katze",)))) == several


# ---------------------------------------------------------------- the cache


async def test_a_request_in_english_finds_what_was_translated_and_the_reverse(
    store: Engine,
) -> None:
    known = KnownCaptions(RECIPE, store)
    german = with_translation(ENGLISH, Translation("de", ("eine rote Katze",)))
    assert await known.look_up_english(IN_GERMAN) is None
    await known.store([(IN_GERMAN, german)])
    for english in (WORK, work(caption_language="en"), work(language="en")):
        assert await KnownCaptions(RECIPE, store).look_up(english) == CACHED
    for other in (IN_GERMAN, work(caption_language="fr")):
        assert await known.look_up_english(other) == CACHED
    for nothing in (WORK, work(caption_language="it"), work(caption_language="de", no_cache=True)):
        assert await known.look_up_english(nothing) is None


def test_the_english_key_is_that_of_a_request_in_english() -> None:
    german = replace(RECIPE, language="de")
    assert german.english_key(WORK) == RECIPE.cache_key(WORK) == RECIPE.english_key(IN_GERMAN)
    other = work(caption_language="de", generation=Generation(num_beams=3))
    assert RECIPE.english_key(other) != RECIPE.english_key(IN_GERMAN)

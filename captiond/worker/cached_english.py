"""Captions that the cache has in English, for requests in another language.

The image is not captioned again: its English caption is translated. Equally, a caption that was
translated is stored in English as well, so that a request in English finds it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from captiond.jobs import Caption, Captioned
from captiond.messages import Timings, Work
from captiond.store.together import Together
from captiond.translation.translations import Attempt, Untranslated, with_translation
from captiond.worker.completion import FinishedImage
from captiond.worker.recipe import Recipe
from captiond.worker.reporting import Reporter
from captiond.worker.runner import TranslationRunner


@dataclass(frozen=True, slots=True)
class CachedEnglish:
    """The captions of an image in English, best first, and the language that is asked for."""

    captions: tuple[Caption, ...]
    language: str


class CachedTranslator:
    """Translates cached captions. Those that wait at the same time are one batch."""

    def __init__(self, recipe: Recipe, runner: TranslationRunner, reporter: Reporter) -> None:
        self._recipe = recipe
        self._runner = runner
        self._reporter = reporter
        self._together = Together[CachedEnglish, Attempt](self._translate)

    async def finished(self, work: Work, english: Captioned) -> FinishedImage:
        """Return the outcome of an image whose caption is in the cache in English."""
        language = self._recipe.language_of(work)
        assert language is not None
        begun = time.perf_counter()
        captions = english.captions or (Caption(english.caption, english.score or 0.0),)
        attempt = await self._together.ask(CachedEnglish(captions, language))
        timings = Timings(translation=time.perf_counter() - begun)
        whole = with_translation(english, attempt)
        outcome = self._recipe.selected(whole, work)
        # The caption may be translated later, so its English text is not stored as the translation.
        passing = isinstance(attempt, Untranslated) and attempt.passing
        new = None if passing else replace(whole, cached=False)  # so that it is stored
        return FinishedImage(work, outcome, timings, new)

    async def _translate(self, asked: Sequence[CachedEnglish]) -> Sequence[Attempt]:
        languages = [each.language for each in asked]
        attempts = await self._runner.translate([each.captions for each in asked], languages)
        pairs = zip(languages, attempts, strict=True)
        self._reporter.captions_translated(
            (language, each.outcome) for language, each in pairs if each
        )
        return attempts

"""The taggers of a model process: captions in, tags out, and never an error for the client."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import structlog
from spacy.language import Language

from captiond.config import TagSettings
from captiond.tagging.extract import Rules, find_tags
from captiond.tagging.languages import language_words
from captiond.tagging.lexicon import read_lexicon
from captiond.tagging.pipelines import fingerprint, load_pipeline
from captiond.tagging.synonyms import Synonyms, read_synonyms
from captiond.tags import Tag

log = structlog.get_logger()
MAX_CHARACTERS = 1000  # of a caption; what stands beyond is not tagged
REMEMBERED = 4096  # captions, about 10 MB; captions repeat, and a look is a thousandth of the work
NO_TAGS: tuple[Tag, ...] = ()


class Tagger:
    """A pipeline with the rules of its language. `failures` counts what could not be tagged."""

    def __init__(
        self, nlp: Language, rules: Rules, fingerprint: str, *, remembered: int = REMEMBERED
    ) -> None:
        self._nlp = nlp
        self._rules = rules
        self._known: dict[str, tuple[Tag, ...]] = {}  # the least lately used one first
        self._remembered = remembered
        self.fingerprint = fingerprint
        self.failures = 0
        self.hits = 0

    @classmethod
    def load(
        cls,
        language: str,
        pipeline: str,
        synonyms: Path | None = None,
        *,
        remembered: int = REMEMBERED,
    ) -> Self:
        """Load the pipeline of a language by its name.

        Raises:
            ModelMissing, ModelBroken: it is not there, or cannot be loaded.
            SettingsError: the file of synonyms is wrong.
        """
        nlp = load_pipeline(language, pipeline)
        rules = Rules(
            language_words(language),
            read_lexicon(language),
            read_synonyms(synonyms) if synonyms else Synonyms(),
        )
        identity = fingerprint(language, pipeline, nlp, synonyms)
        return cls(nlp, rules, identity, remembered=remembered)

    def tag(self, captions: Sequence[str | None]) -> list[tuple[Tag, ...]]:
        """All tags of each caption by salience; none for one that is blank or cannot be tagged."""
        texts = [(caption or "")[:MAX_CHARACTERS].strip() for caption in captions]
        known = {text: self._recalled(text) for text in texts if text}
        new = [text for text, tags in known.items() if tags is None]
        for text, tags in zip(new, self._tag_new(new), strict=True):
            known[text] = tags
        self.hits += sum(map(bool, texts)) - len(new)
        return [known[text] or NO_TAGS if text else NO_TAGS for text in texts]

    def _recalled(self, text: str) -> tuple[Tag, ...] | None:
        tags = self._known.pop(text, None)
        if tags is not None:
            self._known[text] = tags
        return tags

    def _tag_new(self, texts: list[str]) -> list[tuple[Tag, ...]]:
        if not texts:
            return []
        try:
            found = self._run(texts)
        except Exception:  # a pipeline may raise anything; one by one, only the culprit is lost
            log.exception("tagging_failed_for_batch", captions=len(texts))
            return [self._tag_one(text) for text in texts]
        self._remember(texts, found)
        return found

    def _tag_one(self, text: str) -> tuple[Tag, ...]:
        try:
            return self._run([text])[0]
        except Exception:  # as above: the caption still comes, without tags
            self.failures += 1
            log.exception("tagging_failed", caption=text)
            return NO_TAGS

    def _run(self, texts: list[str]) -> list[tuple[Tag, ...]]:
        # Without the zone every new word would stay in the pipeline's vocabulary for good.
        with self._nlp.memory_zone():
            return [find_tags(doc, self._rules) for doc in self._nlp.pipe(texts)]

    def _remember(self, texts: list[str], found: list[tuple[Tag, ...]]) -> None:
        self._known.update(zip(texts, found, strict=True))
        for text in list(self._known)[: max(0, len(self._known) - self._remembered)]:
            del self._known[text]


class Taggers:
    """One tagger for each language that the settings name; `failures` are of all of them."""

    def __init__(self, by_language: Mapping[str, Tagger], default: str) -> None:
        self._by_language = by_language
        self._default = default
        self._without_tagger = 0

    @classmethod
    def load(cls, settings: TagSettings) -> Self:
        """Load every pipeline of the settings.

        Raises:
            ModelMissing, ModelBroken, SettingsError: one of them cannot be had as it is set.
        """
        return cls(
            {
                language: Tagger.load(language, pipeline, settings.synonyms)
                for language, pipeline in settings.pipelines.items()
            },
            settings.language,
        )

    @property
    def failures(self) -> int:
        return self._without_tagger + sum(one.failures for one in self._by_language.values())

    def fingerprint(self, language: str | None = None) -> str:
        """What tells the tags of a language from those of other pipelines, rules and synonyms."""
        tagger = self._by_language.get(language or self._default)
        return tagger.fingerprint if tagger else f"none for {language}"

    def tag(
        self, captions: Sequence[str | None], languages: Sequence[str | None]
    ) -> list[tuple[Tag, ...]]:
        """All tags of each caption by the tagger of its language, None being the default one.

        A task may have been accepted before a language lost its pipeline: its captions go without.
        """
        found: list[tuple[Tag, ...]] = [NO_TAGS] * len(captions)
        named = [language or self._default for language in languages]
        for language in dict.fromkeys(named):
            places = [place for place, name in enumerate(named) if name == language]
            tagger = self._by_language.get(language)
            if tagger is None:
                self._without_tagger += len(places)
                log.error("no_tagger_for_language", language=language, captions=len(places))
                continue
            tags = tagger.tag([captions[place] for place in places])
            for place, one in zip(places, tags, strict=True):
                found[place] = one
        return found

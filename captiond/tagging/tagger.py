"""Taggers turn captions into tags. A caption that cannot be tagged gets no tags, and no error."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import structlog

from captiond.settings.option_settings import TagSettings
from captiond.tagging.embedded import EMBEDDED
from captiond.tagging.extract import TagRules, extract_tags
from captiond.tagging.languages import language_words
from captiond.tagging.lexicon import read_lexicon
from captiond.tagging.pipelines import fingerprint, load_pipeline
from captiond.tagging.spacy_parts import Language
from captiond.tagging.synonyms import Synonyms, read_synonyms
from captiond.tags import Tag

log = structlog.get_logger()
MAX_CHARACTERS = 1000  # the rest of a longer caption is not tagged
# Captions repeat, and a lookup costs a thousandth of tagging. 4,096 captions take about 10 MB.
CACHE_SIZE = 4096
NO_TAGS: tuple[Tag, ...] = ()


class Tagger:
    """A spaCy pipeline with the tag rules of its language, and a cache of the latest captions.

    `failures` counts the captions that could not be tagged, and `hits` those found in the cache.
    `fingerprint` is the hash of everything that the tags depend on. It is part of the key of a
    caption in the database, so that captions get new tags when the pipeline or the rules change.
    With `ignores_case`, captions are tagged in lower case.
    """

    def __init__(
        self,
        nlp: Language,
        rules: TagRules,
        fingerprint: str,
        *,
        cache_size: int = CACHE_SIZE,
        ignores_case: bool = False,
    ) -> None:
        self._nlp = nlp
        self._ignores_case = ignores_case
        self._rules = rules
        self._cache: dict[str, tuple[Tag, ...]] = {}  # the least recently used caption first
        self._cache_size = cache_size
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
        cache_size: int = CACHE_SIZE,
    ) -> Self:
        """Load the pipeline with this name, and the rules of the language.

        Raises:
            ModelMissing, ModelBroken: The pipeline does not exist, or cannot be loaded.
            SettingsError: The file of synonyms is wrong.
        """
        nlp = load_pipeline(language, pipeline)
        rules = TagRules(
            language_words(language),
            read_lexicon(language),
            read_synonyms(synonyms) if synonyms else Synonyms(),
        )
        identity = fingerprint(language, pipeline, nlp, synonyms)
        # captiond's own pipeline has learned from captions, which models write in lower case.
        return cls(nlp, rules, identity, cache_size=cache_size, ignores_case=pipeline in EMBEDDED)

    def tag(self, captions: Sequence[str | None]) -> list[tuple[Tag, ...]]:
        """Return all tags of each caption, the most salient first.

        A caption that is blank, or that cannot be tagged, has no tags.
        """
        texts = [(caption or "")[:MAX_CHARACTERS].strip() for caption in captions]
        tags_of = {text: self._cached(text) for text in texts if text}
        new = [text for text, tags in tags_of.items() if tags is None]
        for text, tags in zip(new, self._tag_new(new), strict=True):
            tags_of[text] = tags
        self.hits += sum(map(bool, texts)) - len(new)
        return [tags_of[text] or NO_TAGS if text else NO_TAGS for text in texts]

    def _cached(self, text: str) -> tuple[Tag, ...] | None:
        """Return the tags of a cached caption, which becomes the most recently used one."""
        tags = self._cache.pop(text, None)
        if tags is not None:
            self._cache[text] = tags
        return tags

    def _tag_new(self, texts: list[str]) -> list[tuple[Tag, ...]]:
        if not texts:
            return []
        try:
            tags = self._run(texts)
        except Exception:  # A pipeline may raise anything. Tagging one by one isolates the caption.
            log.exception("tagging_failed_for_batch", captions=len(texts))
            return [self._tag_one(text) for text in texts]
        self._add_to_cache(texts, tags)
        return tags

    def _tag_one(self, text: str) -> tuple[Tag, ...]:
        try:
            return self._run([text])[0]
        except Exception:  # The client still gets the caption, without tags.
            self.failures += 1
            log.exception("tagging_failed", caption=text)
            return NO_TAGS

    def _run(self, texts: list[str]) -> list[tuple[Tag, ...]]:
        read = list(map(in_lower_case, texts)) if self._ignores_case else texts
        # Without the zone, the pipeline's vocabulary would keep every new word forever.
        with self._nlp.memory_zone():
            return [extract_tags(doc, self._rules) for doc in self._nlp.pipe(read)]

    def _add_to_cache(self, texts: list[str], tags: list[tuple[Tag, ...]]) -> None:
        self._cache.update(zip(texts, tags, strict=True))
        for text in list(self._cache)[: max(0, len(self._cache) - self._cache_size)]:
            del self._cache[text]


def in_lower_case(text: str) -> str:
    """Return the text in lower case, each character at its place."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(each.lower() if len(each.lower()) == 1 else each for each in text)


class Taggers:
    """One tagger for each language that the settings name."""

    def __init__(self, by_language: Mapping[str, Tagger], default: str) -> None:
        self._by_language = by_language
        self._default = default
        self._without_tagger = 0

    @classmethod
    def load(cls, settings: TagSettings) -> Self:
        """Load every pipeline that the settings name.

        Raises:
            ModelMissing, ModelBroken: A pipeline does not exist, or cannot be loaded.
            SettingsError: The file of synonyms is wrong.
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
        """The number of captions that could not be tagged, in all languages."""
        return self._without_tagger + sum(one.failures for one in self._by_language.values())

    def fingerprint(self, language: str | None = None) -> str:
        """Return the fingerprint of a language's tagger; None is the default language."""
        tagger = self._by_language.get(language or self._default)
        return tagger.fingerprint if tagger else f"none for {language}"

    def tag(
        self, captions: Sequence[str | None], languages: Sequence[str | None]
    ) -> list[tuple[Tag, ...]]:
        """Return all tags of each caption, by the tagger of its language; None is the default one.

        A task may be older than the settings: captions in a language that no longer has a pipeline
        get no tags.
        """
        tags: list[tuple[Tag, ...]] = [NO_TAGS] * len(captions)
        codes = [language or self._default for language in languages]
        for language in dict.fromkeys(codes):
            indexes = [index for index, code in enumerate(codes) if code == language]
            tagger = self._by_language.get(language)
            if tagger is None:
                self._without_tagger += len(indexes)
                log.error("no_tagger_for_language", language=language, captions=len(indexes))
                continue
            selected = tagger.tag([captions[index] for index in indexes])
            for index, caption_tags in zip(indexes, selected, strict=True):
                tags[index] = caption_tags
        return tags

"""The vocabularies of the settings and of requests, and their tags in a result."""

from collections.abc import Iterable
from functools import cache

from captiond.settings.option_settings import TagSettings
from captiond.tagging.lexicon import Lexicon, read_lexicon
from captiond.tags import Category, Kind, Tag
from captiond.vocabulary import (
    THRESHOLDS,
    ScoredTag,
    Template,
    Vocabulary,
    VocabularyTag,
    read_tags,
)

SCORE_DIGITS = 4


def vocabulary_of(settings: TagSettings) -> Vocabulary:
    """Return the vocabulary of the settings; it has no tags if they name no file.

    Raises:
        SettingsError: the file is wrong.
    """
    tags = read_tags(settings.vocabulary) if settings.vocabulary is not None else ()
    template = Template.parse(settings.vocabulary_template)
    scorer, threshold = settings.vocabulary_scorer, settings.vocabulary_threshold
    if threshold is None:
        threshold = THRESHOLDS[scorer]
    return Vocabulary(tags, template, threshold, scorer)


def tags_of_request(texts: Iterable[str]) -> tuple[VocabularyTag, ...]:
    """Return the tags of a list that a request has sent."""
    return tuple(map(VocabularyTag, texts))


def tag_of(scored: ScoredTag) -> Tag:
    """Return a scored tag as results have it."""
    text = scored.tag.text
    words = text.lower().split()
    category = scored.tag.category or lexicon().category(words, words) or Category.OTHER
    return Tag(
        text,
        words[-1],
        category,
        Kind.VOCABULARY,
        None,
        None,
        confidence=scored.confidence,
        score=round(scored.score, SCORE_DIGITS),
    )


@cache
def lexicon() -> Lexicon:
    """Return the lexicon of English, the language of the tags that models know."""
    return read_lexicon("en")

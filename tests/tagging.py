"""What the tests of tags share."""

from collections.abc import Iterable, Sequence

from captiond.tagging.extract import Rules
from captiond.tagging.languages import language_words
from captiond.tagging.lexicon import read_lexicon
from captiond.tagging.tagger import Tagger
from captiond.tags import Tag, TagFilter

ENGLISH_RULES = Rules(language_words("en"), read_lexicon("en"))
WANTED = TagFilter()


def texts(found: Iterable[Tag], wanted: TagFilter = WANTED) -> list[str]:
    """The tags as clients read them in `tags`."""
    return sorted(tag.tag for tag in wanted.select(found))


def tags_of(tagger: Tagger, captions: Sequence[str | None]) -> list[list[str]]:
    return [texts(found) for found in tagger.tag(captions)]

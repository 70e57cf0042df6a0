"""Tags, their kinds and categories, and the filter that selects them. Pure, and without spaCy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """The rule that a tag comes from."""

    PHRASE = "phrase"
    NOUN = "noun"
    ADJECTIVE = "adjective"
    VOCABULARY = "vocabulary"


class Category(StrEnum):
    """What a tag is about. docs/tags.md explains each category."""

    PERSON = "person"
    ANIMAL = "animal"
    VEHICLE = "vehicle"
    FOOD = "food"
    DRINK = "drink"
    PLANT = "plant"
    PLACE = "place"
    BUILDING = "building"
    FURNITURE = "furniture"
    CLOTHING = "clothing"
    SPORT = "sport"
    TOY = "toy"
    TOOL = "tool"
    ELECTRONICS = "electronics"
    BODY = "body"
    NATURE = "nature"
    WEATHER = "weather"
    TEXT = "text"
    COLOUR = "colour"
    SHAPE = "shape"
    EVENT = "event"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag and its place in the caption: the characters from `start` to before `end`.

    `lemma` is the lemma of the noun, of the adjective, or of the head of the phrase. `confidence`
    is in [0, 1], or None if it is not known how sure the model was. A tag that a vocabulary gives
    has a `score` in nats. If it is not one of the caption as well, it has no place there.
    `english` is the tag before it was translated, or None if it was not.
    """

    tag: str
    lemma: str
    category: Category
    kind: Kind
    start: int | None
    end: int | None
    confidence: float | None = None
    score: float | None = None
    english: str | None = None

    def with_confidence(self, confidence: float) -> "Tag":
        """Return this tag with a confidence, in half of the time that `replace` takes."""
        place = self.start, self.end
        return Tag(
            self.tag, self.lemma, self.category, self.kind, *place,
            confidence, self.score, self.english,
        )  # fmt: skip


DEFAULT_KINDS = (Kind.PHRASE, Kind.NOUN, Kind.VOCABULARY)


@dataclass(frozen=True, slots=True)
class TagOptions:
    """Which tags one request wants. None leaves the choice to the settings."""

    kinds: tuple[Kind, ...] | None = None
    categories: tuple[Category, ...] | None = None
    deny: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    min_length: int | None = None
    max_number: int | None = None


@dataclass(frozen=True, slots=True)
class TagFilter:
    """Which tags are wanted. Empty `categories` stand for all, `max_number` 0 for no limit.

    A tag must match no pattern in `deny`, and at least one pattern of each list in `allow`.
    """

    kinds: tuple[Kind, ...] = DEFAULT_KINDS
    categories: tuple[Category, ...] = ()
    deny: tuple[str, ...] = ()
    allow: tuple[tuple[str, ...], ...] = ()
    min_length: int = 1
    max_number: int = 0

    def narrowed(self, options: TagOptions) -> "TagFilter":
        """Return this filter with the options of a request.

        The lists of both apply: a request cannot bring back what the settings deny or do not allow.
        The other options replace those of the settings.
        """
        return TagFilter(
            kinds=self.kinds if options.kinds is None else options.kinds,
            categories=self.categories if options.categories is None else options.categories,
            deny=self.deny + options.deny,
            allow=self.allow + ((options.allow,) if options.allow else ()),
            min_length=self.min_length if options.min_length is None else options.min_length,
            max_number=self.max_number if options.max_number is None else options.max_number,
        )

    def select(self, tags: Iterable[Tag]) -> tuple[Tag, ...]:
        """Return the wanted tags, each text once, in their order, most salient first."""
        wanted: dict[str, Tag] = {}
        for tag in tags:
            if self._wants(tag):
                wanted.setdefault(tag.tag, tag)
        return tuple(wanted.values())[: self.max_number or None]

    def _wants(self, tag: Tag) -> bool:
        kinds = {tag.kind} if tag.score is None else {tag.kind, Kind.VOCABULARY}
        return (
            not kinds.isdisjoint(self.kinds)
            and (not self.categories or tag.category in self.categories)
            and len(tag.tag) >= self.min_length
            and not listed(tag, self.deny)
            and all(listed(tag, patterns) for patterns in self.allow)
        )


def merged(of_caption: Iterable[Tag], of_vocabulary: Iterable[Tag]) -> tuple[Tag, ...]:
    """Return the tags of a caption, then those that only the vocabulary gives, in their orders.

    A tag of both keeps its place in the caption, and has the score of the vocabulary.
    """
    scored = {tag.tag.casefold(): tag for tag in of_vocabulary}
    tags: list[Tag] = []
    common: set[str] = set()
    for tag in of_caption:
        key = tag.tag.casefold()
        if key in scored:
            common.add(key)
            tag = replace(tag, score=scored[key].score)
        tags.append(tag)
    return (*tags, *(tag for key, tag in scored.items() if key not in common))


def listed(tag: Tag, patterns: Sequence[str]) -> bool:
    """Return whether a pattern matches the whole tag or its lemma."""
    return any(matches(pattern, tag.tag) or matches(pattern, tag.lemma) for pattern in patterns)


def matches(pattern: str, text: str) -> bool:
    """Return whether `pattern` matches all of `text`. `*` matches any characters, case is ignored.

    Patterns come from clients, so they are no regular expressions: matching never backtracks.
    """
    first, *rest = pattern.casefold().split("*")
    text = text.casefold()
    if not rest:
        return text == first
    *middle, last = rest
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    text = text[len(first) : len(text) - len(last)]
    for part in middle:
        _, separator, text = text.partition(part) if part else ("", "*", text)
        if not separator:
            return False
    return True

"""Vocabularies: lists of tags that a model scores against an image."""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Literal

from captiond.notation.linefiles import LineFile
from captiond.tags import Category

MOST_TAGS = 5000  # of the settings
LONGEST_TAG = 100  # characters
# Of a tag. A longer text is no tag: the 100 characters that a tag may have are some 20 tokens of
# usual words, but 100 tokens of marks, and each token costs as much.
MOST_TOKENS = 24
# A word of so many letters is one token if it is usual. Of a longer one, each few letters are.
USUAL_LETTERS, FURTHER_LETTERS = 8, 3
WORDS = re.compile(r"[a-z0-9]+|[^\sa-z0-9]", re.IGNORECASE | re.ASCII)
# Beside a caption, a vocabulary takes as long as so many steps of the text decoder, plus one for
# each ten tokens that are read. For an image a model reads a limited number of them.
LEAST_STEPS, MOST_FURTHER_STEPS, TOKENS_OF_A_STEP = 10, 60, 10
KEPT_COSTS = 64
PLACE = "{tag}"  # in a template
TEMPLATE = "a photo of a {tag}"
ARTICLES = ("a", "an")
VOWELS = "aeiou"

CATEGORIES = frozenset(category.value for category in Category)
Scorer = Literal["likelihood", "matching"]
THRESHOLDS: dict[Scorer, float] = {"likelihood": 4.0, "matching": 0.0}  # nats; the defaults


@dataclass(frozen=True, slots=True)
class VocabularyTag:
    """One tag of a vocabulary. None: the category of the lexicon, the threshold of the vocabulary.

    The tag is given to an image if its score is at least the threshold.
    """

    text: str
    category: Category | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A text with a place for a tag: the text `before`, one word, the tag, and the text `after`."""

    before: str
    word: str
    after: str = ""

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Split a text such as "a photo of a {tag}".

        Raises:
            ValueError: it has not one {tag}, or no word before it. The message says which.
        """
        before, place, after = text.partition(PLACE)
        if not place or PLACE in after:
            raise ValueError(f"must contain {PLACE} once")
        *words, last = before.split() or [""]
        if not last:
            raise ValueError(f"must have a word before {PLACE}")
        return cls(" ".join(words), last, after.strip())

    @property
    def words(self) -> tuple[str, ...]:
        """The words that may stand before a tag: "a" and "an" for one of them."""
        return ARTICLES if self.word.lower() in ARTICLES else (self.word,)

    def word_before(self, tag: str) -> str:
        """Return the word before a tag; "a" becomes "an" before a vowel, and the reverse."""
        if len(self.words) == 1:
            return self.word
        return ARTICLES[tag[:1].lower() in VOWELS]

    def filled(self, tag: str) -> str:
        """Return the whole text with a tag."""
        parts = (self.before, self.word_before(tag), tag, self.after)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tags, the text that they are tried in, their common threshold, and what scores them."""

    tags: tuple[VocabularyTag, ...]
    template: Template
    threshold: float
    scorer: Scorer = "likelihood"

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the tags of an image depend on, beside the model."""
        parts = (self.tags, self.template, self.threshold, self.scorer)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(tag.text for tag in self.tags)

    @property
    def thresholds(self) -> list[float]:
        """The threshold of each tag."""
        return [self.threshold if tag.threshold is None else tag.threshold for tag in self.tags]


@dataclass(frozen=True, slots=True)
class ScoredTag:
    """A tag of a vocabulary that an image has, with its score in nats.

    `confidence` is in [0, 1], if the scorer knows how probable it is that the image has the tag.
    """

    tag: VocabularyTag
    score: float
    confidence: float | None = None


@lru_cache(KEPT_COSTS)  # each image of a request asks for it
def steps_of_tags(tags: tuple[str, ...], images: int) -> float:
    """Return the estimated cost of the tags of a request for one of its images, in steps of the
    text decoder.

    They are read for each image, and once as a whole for all of them: how likely they are without
    an image. A model remembers that, but whether it does is known to the model only.
    """
    if not tags:
        return 0
    reading = sum(map(tokens_read, tags)) / TOKENS_OF_A_STEP
    return round(LEAST_STEPS + min(reading, MOST_FURTHER_STEPS) + reading / images)


def tokens_read(tag: str) -> int:
    """Return about how many tokens of a tag a model reads: all but the last, which is predicted.

    Models have different tokenizers. In most of them, each mark and each letter of other scripts is
    a token of its own.
    """
    tokens = 0
    for word in WORDS.findall(tag):
        tokens += 1 + max(0, -(-(len(word) - USUAL_LETTERS) // FURTHER_LETTERS))
    return max(0, min(tokens, MOST_TOKENS) - 1)


def read_tags(path: Path) -> tuple[VocabularyTag, ...]:
    """Read a file with one tag on each line, and what is set for it: `sunset = nature, 2.5`.

    The rest of a line after `#` is a comment.

    Raises:
        SettingsError: the file cannot be read, or a line is wrong. The message names the line.
    """
    file = LineFile(path, "tags.vocabulary")
    tags: dict[str, VocabularyTag] = {}
    for number, line in file.commented_lines():
        try:
            tag = parsed(line)
        except ValueError as error:
            raise file.wrong_line(number, str(error)) from None
        key = tag.text.casefold()
        if key in tags:
            raise file.wrong_line(number, f"{tag.text!r} is already on an earlier line")
        tags[key] = tag
    if not tags:
        raise file.wrong("has no tag; write one on each line")
    if len(tags) > MOST_TAGS:
        raise file.wrong(f"has {len(tags)} tags; at most {MOST_TAGS} are allowed")
    return tuple(tags.values())


def parsed(line: str) -> VocabularyTag:
    """Return the tag of a line.

    Raises:
        ValueError: the line is wrong.
    """
    name, equals, rest = (part.strip() for part in line.partition("="))
    text = " ".join(name.split())
    check_tag(text)
    category: Category | None = None
    threshold: float | None = None
    values = [value.strip() for value in rest.split(",")] if equals else []
    if len(values) > 2:
        raise ValueError(f"{line!r} has more than a category and a threshold")
    for value in values:
        if category is None and threshold is None and value.lower() in CATEGORIES:
            category = Category(value.lower())
        elif threshold is None and is_number(value):
            threshold = float(value)
        else:
            raise ValueError(
                f"{value!r} is neither a category nor a threshold; "
                f"write for example: {text} = nature, 2.5"
            )
    return VocabularyTag(text, category, threshold)


def check_tag(text: str) -> None:
    """Return if a text can be a tag.

    Raises:
        ValueError: it cannot.
    """
    if not any(map(str.isalnum, text)):
        raise ValueError(f"{text!r} has no letter and no digit")
    if len(text) > LONGEST_TAG:
        raise ValueError(f"the tag {text[:20]!r}... has more than {LONGEST_TAG} characters")


def is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False

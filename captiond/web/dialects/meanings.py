"""What the names of properties in a JSON Schema stand for. Pure.

Names are compared without case, `_`, `-` and spaces, so `alt_text` and `altText` are one name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from captiond.tags import Category
from captiond.web.dialects.findings import Findings, Label

# What a property belongs to: the images, one of their tags, or a text in a list of texts.
Subject = Findings | Label | str
Meaning = str | float | list[Label] | list[str] | None

CAPTION = frozenset(
    {"caption", "description", "desc", "summary", "alttext", "alt", "text", "content", "answer"}
    | {"response", "result", "output", "value", "comment", "scene", "sentence"}
)
TITLE = frozenset({"title", "headline", "heading"})
CAPTION_ENDS = ("caption", "description", "summary", "alttext")
TAGS = frozenset({"tags", "keywords", "hashtags", "topics", "terms", "concepts"})
TAG_ENDS = ("tags", "keywords")
LABELS = frozenset({"labels", "objects", "subjects", "items", "entities", "things", "nouns"})
LABEL_ENDS = ("labels", "objects")
CATEGORIES = frozenset({"categories", "classes", "types"})
CATEGORY = frozenset({"category", "class", "type", "group", "kind"})
NAMES = frozenset({"name", "label", "tag", "keyword", "term", "word", "object", "displayname"})
CONFIDENCE = frozenset({"confidence", "score", "probability", "certainty", "likelihood"})
CONFIDENCE_ENDS = ("confidence", "score", "probability")
TOPICALITY = frozenset({"topicality", "relevance", "relevancy", "salience", "importance", "weight"})
# Confidences that are not those of a caption or a tag: PhotoPrism has nsfw_confidence.
FOREIGN_STARTS = ("nsfw", "not", "adult", "spam", "safe", "aesthetic", "quality")
# Lists of one category. `people` and `colors` are how clients write them.
OF_CATEGORY: Mapping[str, Category] = {
    **{f"{category.value}s": category for category in Category if category is not Category.OTHER},
    "people": Category.PERSON,
    "colors": Category.COLOUR,
    "buildings": Category.BUILDING,
    "clothes": Category.CLOTHING,
    "clothing": Category.CLOTHING,
    "food": Category.FOOD,
    "nature": Category.NATURE,
    "furniture": Category.FURNITURE,
}
SEPARATORS = re.compile(r"[\s_-]+")


def meaning(name: str, subject: Subject) -> Meaning:
    """Return what captiond has to say for a property, or None: the name stands for nothing.

    The answer itself has no name, and stands for the caption.
    """
    key = SEPARATORS.sub("", name).casefold()
    match subject:
        case Findings():
            return of_image(key, subject)
        case Label():
            return of_label(key, subject)
        case _:
            return subject


def of_image(key: str, image: Findings) -> Meaning:
    """Return the meaning of a name that belongs to the images."""
    if key in TITLE or key.endswith("title"):
        return image.caption[:1].upper() + image.caption[1:]
    if not key or key in CAPTION or key.endswith(CAPTION_ENDS):
        return image.caption
    if key == "captions":
        return list(image.captions)
    if key in TAGS or key.endswith(TAG_ENDS):
        return list(image.tags)
    if key in LABELS or key.endswith(LABEL_ENDS):
        return list(image.labels)
    if key in CATEGORIES or key.endswith("categories"):
        return image.categories
    if key in OF_CATEGORY:
        return [label for label in image.labels if label.category is OF_CATEGORY[key]]
    if key in CATEGORY or key.endswith("category"):
        return next(iter(image.categories), None)
    if is_confidence(key):
        return image.confidence
    if key in {"width", "height"}:
        return image.width if key == "width" else image.height
    return None


def of_label(key: str, label: Label) -> Meaning:
    """Return the meaning of a name that belongs to a tag, or to the list that the tag is in."""
    if is_confidence(key):
        return label.confidence
    if key in TOPICALITY:
        return label.topicality
    if key in CATEGORIES or key.endswith("categories"):
        return label.categories
    if key in CATEGORY or key.endswith("category"):
        return next(iter(label.categories), None)
    singular = key in NAMES or key in CAPTION or key in TITLE or key.endswith("name")
    plural = key in TAGS or key in LABELS or key in OF_CATEGORY
    if not key or singular or plural or key.endswith((*TAG_ENDS, *LABEL_ENDS)):
        return label.name
    return None


def is_confidence(key: str) -> bool:
    """Return whether a name stands for the confidence of a caption or a tag."""
    named = key in CONFIDENCE or key.endswith(CONFIDENCE_ENDS)
    return named and not key.startswith(FOREIGN_STARTS)


def texts(values: list[Label] | list[str]) -> list[str]:
    """Return the texts of a list."""
    return [each if isinstance(each, str) else each.name for each in values]


def plain_text(known: Meaning) -> str:
    """Return a meaning as text. A list is separated by commas."""
    match known:
        case None:
            return ""
        case list():
            return ", ".join(texts(known))
        case _:
            return str(known)


@dataclass(frozen=True, slots=True)
class Mentions:
    """What a subject mentions, in lower case: some texts as a whole, and the words of another."""

    texts: frozenset[str]
    words: str = ""

    @classmethod
    def of(cls, subject: Subject) -> "Mentions":
        """Return what the caption, its tags and their categories contain."""
        if isinstance(subject, str):
            return cls(frozenset({subject.casefold()}))
        labels = (subject,) if isinstance(subject, Label) else (*subject.tags, *subject.labels)
        known = {text.casefold() for label in labels for text in (label.name, label.lemma)}
        known |= {category for label in labels for category in label.categories}
        whole = subject.name if isinstance(subject, Label) else subject.caption
        return cls(frozenset(known), f" {whole.casefold()} ")

    def __contains__(self, option: object) -> bool:
        if not isinstance(option, str) or not option.strip():
            return False
        wanted = option.strip().casefold()
        return wanted in self.texts or f" {wanted} " in self.words

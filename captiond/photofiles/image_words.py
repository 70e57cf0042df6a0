"""What is written about an image, and what is already written there."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from unicodedata import normalize

# Cameras write these into each image. They describe nothing.
CAMERA_WORDS = frozenset(
    {
        "digital camera", "dcim", "default", "konica minolta digital camera",
        "minolta digital camera", "olympus digital camera", "photo", "samsung",
        "samsung camera pictures", "sony dsc",
    }
)  # fmt: skip
OTHER = "other"  # the category of tags that have none
# XML 1.0 has no place for these characters, not even as escapes.
NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class NewWords:
    """A caption, its tags with the category of each, the model, and the alternative text.

    If the caption was translated, `language` is the code of its language, and `caption_en` the
    English caption.
    """

    caption: str
    tags: tuple[tuple[str, str], ...]
    model: str
    alt_text: str
    language: str = ""
    caption_en: str = ""

    @property
    def captions(self) -> dict[str, str]:
        """The captions by language, that of the image first. "" is a language that is not told."""
        captions = {self.language: self.caption}
        if self.caption_en:
            captions.setdefault("en", self.caption_en)
        return captions

    def writable(self) -> "NewWords":
        """Return the words without the characters that XML cannot have.

        A tag has no `|` either: programs would read it as a tag below another one.
        """
        texts = (self.caption, self.model, self.alt_text, self.caption_en)
        caption, model, alt_text, caption_en = (NO_XML.sub("", text) for text in texts)
        tags = tuple(
            (NO_XML.sub("", tag).replace("|", " "), category) for tag, category in self.tags
        )
        return NewWords(caption, tags, model, alt_text, self.language, caption_en)

    @property
    def flat(self) -> list[str]:
        """Return the tags alone."""
        return [tag for tag, _ in self.tags]

    def paths(self, separator: str) -> list[str]:
        """Return each tag below its category, as `animal|cat`. Tags of no category are alone."""
        return [
            tag.replace(separator, " ")
            if category == OTHER
            else f"{category}{separator}{tag.replace(separator, ' ')}"
            for tag, category in self.tags
        ]


@dataclass(frozen=True, slots=True)
class OtherWords:
    """What other fields or files say, which photo programs show if this packet says nothing.

    `paths` are keywords below others, as digiKam writes them: `Places/Rome`.
    """

    description: str = ""
    keywords: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def __or__(self, other: "OtherWords") -> "OtherWords":
        return OtherWords(
            self.description or other.description,
            tuple(united(self.keywords, other.keywords)),
            tuple(united(self.paths, other.paths)),
        )


def described_by(text: str) -> str:
    """Return a description that a person may have written: empty if a camera has written it."""
    text = text.strip(" \0\t\r\n")
    return "" if text.lower() in CAMERA_WORDS else text


def united(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """Return the words of both lists, those that are the same word once."""
    words: dict[str, str] = {}
    for word in (*first, *second):
        words.setdefault(folded(word), word)
    return list(words.values())


def without(words: Iterable[str], removed: Iterable[str]) -> list[str]:
    """Return the words that are not among the removed ones."""
    gone = set(map(folded, removed))
    return [word for word in words if folded(word) not in gone]


def folded(word: str) -> str:
    """Return what words have in common that are the same one.

    They may differ in case, and an accent may be a character of its own, as some systems write it.
    """
    return normalize("NFC", word.casefold())

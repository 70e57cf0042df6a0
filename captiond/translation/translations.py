"""The translations of the captions of a batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from captiond.jobs import Caption, Captioned
from captiond.translation.degenerate import is_degenerate
from captiond.translation.translator import Sentence
from captiond.wording.openings import without_opening

TranslateTexts = Callable[[Sequence[str], str], Sequence[Sentence | None]]
DEGENERATE = "caption_language: the caption is in English, because its translation makes no sense"
UNAVAILABLE = "caption_language: the caption is in English, because the translation does not work"


@dataclass(frozen=True, slots=True)
class Translation:
    """The captions of an image in another language, best first.

    `described` is the best one without its opening, or None if it has no opening.
    """

    language: str
    captions: tuple[str, ...]
    described: str | None = None
    outcome: ClassVar = "translated"


@dataclass(frozen=True, slots=True)
class Untranslated:
    """Why the captions of an image stay in English. A `passing` reason may not exist later."""

    note: str
    passing: bool

    @property
    def outcome(self) -> str:
        return "unavailable" if self.passing else "degenerate"


Attempt = Translation | Untranslated | None


def translated(
    images: Sequence[tuple[Caption, ...]],
    languages: Sequence[str | None],
    translate: TranslateTexts,
) -> list[Attempt]:
    """Translate the captions of images, each into its language; None stands for English.

    All texts of a language are one batch, and each text is translated once.
    """
    attempts: list[Attempt] = [None] * len(images)
    for language in dict.fromkeys(filter(None, languages)):
        chosen = [
            number
            for number, each in enumerate(languages)
            if each == language and any(caption.text.strip() for caption in images[number])
        ]
        texts = list(dict.fromkeys(text for n in chosen for text in texts_of(images[n])))
        known = dict(zip(texts, translate(texts, language), strict=True))
        for number in chosen:
            attempts[number] = attempt(images[number], language, known)
    return attempts


def texts_of(captions: tuple[Caption, ...]) -> Iterator[str]:
    """Yield what is to be translated for one image: its captions, and the best without opening."""
    for caption in captions:
        yield caption.text
    if (text := without_opening(captions[0].text)) != captions[0].text:
        yield text


def attempt(
    captions: tuple[Caption, ...], language: str, known: dict[str, Sentence | None]
) -> Translation | Untranslated:
    """Return the translations of one image, or why it has none: all its texts must have one."""
    texts = list(texts_of(captions))
    sentences = [known[text] for text in texts]
    if None in sentences:
        return Untranslated(UNAVAILABLE, passing=True)
    found = [sentence for sentence in sentences if sentence is not None]
    if any(map(is_degenerate, texts, found)):
        return Untranslated(DEGENERATE, passing=False)
    spoken = tuple(sentence.text for sentence in found)
    described = spoken[-1] if len(spoken) > len(captions) else None
    return Translation(language, spoken[: len(captions)], described)


def with_translation(whole: Captioned, attempted: Attempt) -> Captioned:
    """Return a caption in its other language, or with a note that says why it is in English."""
    if attempted is None:
        return whole
    if isinstance(attempted, Untranslated):
        return replace(whole, notes=(*whole.notes, attempted.note))
    raw = whole.caption if whole.raw_caption is None else whole.raw_caption
    return replace(
        whole,
        caption=attempted.captions[0],
        raw_caption=raw,
        captions=tuple(map(in_language, whole.captions, attempted.captions)),
        caption_en=whole.caption,
        caption_language=attempted.language,
        described=attempted.described,
    )


def in_english(whole: Captioned) -> Captioned:
    """Return a translated caption as it was before."""
    assert whole.caption_en is not None
    return replace(
        whole,
        caption=whole.caption_en,
        raw_caption=None if whole.raw_caption == whole.caption_en else whole.raw_caption,
        captions=tuple(map(untranslated, whole.captions)),
        caption_en=None,
        caption_language=None,
        described=None,
    )


def untranslated(caption: Caption) -> Caption:
    """Return one of several captions as it was before it was translated."""
    if caption.english is None:
        return caption
    raw = None if caption.raw == caption.english else caption.raw
    return replace(caption, text=caption.english, raw=raw, english=None)


def in_language(caption: Caption, text: str) -> Caption:
    """Return one of several captions with its translation as its text."""
    raw = caption.text if caption.raw is None else caption.raw
    return replace(caption, text=text, raw=raw, english=caption.text)

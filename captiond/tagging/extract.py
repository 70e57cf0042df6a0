"""From a tagged caption to its tags. Pure rules over spaCy's tokens.

1. Each noun phrase, lower-cased and lemmatized, without determiners, pronouns, stop words,
   punctuation and one-letter words.
2. Each noun and proper noun on its own, if its lemma has three letters or more.
3. Not the words that say only that there is a picture.
4. Unique and sorted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from spacy.tokens import Doc, Span, Token

from captiond.tagging.phrases import noun_phrases

RULES_VERSION = 2  # part of the cache's key: a change of the rules makes new tags
NOUNS = frozenset({"NOUN", "PROPN"})
DROPPED = frozenset({"DET", "PRON", "PUNCT", "SPACE", "SYM"})
GENERIC = frozenset(
    {"image", "picture", "photo", "photograph", "thing", "things", "stuff"},
)
SHORTEST_NOUN = 3


class Kind(StrEnum):
    """Which rule gave a tag."""

    PHRASE = "phrase"
    NOUN = "noun"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag, and the characters of the caption from `start` to before `end` that gave it.

    `lemma` is that of the noun, or of the phrase's head.
    """

    text: str
    lemma: str
    kind: Kind
    start: int
    end: int


def tags(doc: Doc) -> list[str]:
    """The tags of a caption, each once, sorted."""
    return sorted({tag.text for tag in find_tags(doc)})


def find_tags(doc: Doc) -> Iterator[Tag]:
    """Every tag with where it stands, phrases first; a text may come more than once."""
    found = (*_phrase_tags(doc), *_noun_tags(doc))
    return (tag for tag in found if tag.text not in GENERIC)


def _phrase_tags(doc: Doc) -> Iterator[Tag]:
    for phrase in noun_phrases(doc):
        words = [token for token in phrase if _carries_meaning(token)]
        if words:
            text = " ".join(map(_word, words))
            yield _tag(text, Kind.PHRASE, doc[words[0].i : words[-1].i + 1])


def _noun_tags(doc: Doc) -> Iterator[Tag]:
    for token in doc:
        if token.pos_ in NOUNS and sum(map(str.isalpha, token.lemma_)) >= SHORTEST_NOUN:
            yield _tag(token.lemma_.lower(), Kind.NOUN, doc[token.i : token.i + 1])


def _tag(text: str, kind: Kind, span: Span) -> Tag:
    return Tag(text, span[-1].lemma_.lower(), kind, span.start_char, span.end_char)


def _carries_meaning(token: Token) -> bool:
    if token.pos_ in DROPPED or token.is_stop or token.is_punct:
        return False
    word = _word(token)
    return len(word) > 1 and any(map(str.isalnum, word))


def _word(token: Token) -> str:
    """The lemma; a participle within a phrase is an adjective, its own lemma: "parked car"."""
    return (token.lower_ if token.pos_ == "VERB" else token.lemma_).strip().lower()

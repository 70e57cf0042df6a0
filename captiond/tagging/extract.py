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

RULES_VERSION = 1  # part of the cache's key: a change of the rules makes new tags
NOUNS = {"NOUN", "PROPN"}
WITHIN_PHRASE = {"ADJ", "NOUN", "PROPN", "NUM"}
DROPPED = {"DET", "PRON", "PUNCT", "SPACE", "SYM"}
GENERIC = {"image", "picture", "photo", "photograph", "thing", "things", "stuff"}
SHORTEST_NOUN = 3


class Kind(StrEnum):
    """Which rule gave a tag."""

    PHRASE = "phrase"
    NOUN = "noun"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag and the characters of the caption, from `start` to before `end`, that gave it."""

    text: str
    kind: Kind
    start: int
    end: int


def tags(doc: Doc) -> list[str]:
    """The tags of a caption, each once, sorted."""
    return sorted({tag.text for tag in find_tags(doc)})


def find_tags(doc: Doc) -> Iterator[Tag]:
    """Every tag with where it stands, phrases first; a text may come more than once."""
    for span in noun_phrases(doc):
        words = [token.lemma_.lower() for token in span if carries_meaning(token)]
        yield from tag(" ".join(words), Kind.PHRASE, span)
    for token in doc:
        lemma = token.lemma_.lower()
        if token.pos_ in NOUNS and len(lemma) >= SHORTEST_NOUN:
            yield from tag(lemma, Kind.NOUN, doc[token.i : token.i + 1])


def tag(text: str, kind: Kind, span: Span) -> Iterator[Tag]:
    if text and text not in GENERIC:
        yield Tag(text, kind, span.start_char, span.end_char)


def carries_meaning(token: Token) -> bool:
    return token.pos_ not in DROPPED and not token.is_stop and len(token.lemma_) > 1


def noun_phrases(doc: Doc) -> Iterator[Span]:
    """The parser's noun chunks; without a parser, runs of adjectives and nouns ending in a noun."""
    if doc.has_annotation("DEP"):
        yield from doc.noun_chunks
        return
    start = 0
    while start < len(doc):
        end = start
        while end < len(doc) and doc[end].pos_ in WITHIN_PHRASE:
            end += 1
        last = next((i for i in range(end - 1, start - 1, -1) if doc[i].pos_ in NOUNS), None)
        if last is not None:
            yield doc[start : last + 1]
        start = end + 1

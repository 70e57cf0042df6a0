"""Where the noun phrases of a caption are: from the parser, or else from the parts of speech.

Without a parser each token becomes one letter and a regular expression finds the phrases. They
come out as spaCy's noun chunks would, but for determiners and pronouns, which no tag keeps:
"a brown and white dog", "the woman's red dress", "a two-year-old girl", "a snow covered hill".
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from spacy.tokens import Doc

from captiond.tagging.words import Word

_LETTERS = {
    "NOUN": "N",
    "PROPN": "N",
    "ADJ": "A",
    "NUM": "#",
    "ADV": "R",
    "DET": "D",
    "CCONJ": "C",
    "VERB": "V",
}
_OTHER = "X"
_PARTICIPLE = "P"  # a participle that stands before a noun, as an adjective does

# Possessive quantifiers (`*+`) and look-aheads keep the search from backtracking: a caption is at
# most some hundred tokens, but any of them.
_NOUN_AHEAD = r"(?=[ARPC#,-]*N)"
_COMPOUND_ADJECTIVE = rf"(?:#-?)?N-?A{_NOUN_AHEAD}"  # two-year-old, snow covered
_MODIFIER = rf"(?:{_COMPOUND_ADJECTIVE}|R?(?:[NAPRC#]-)*+[AP#](?!-))"
_MODIFIERS = rf"(?:{_MODIFIER}(?:(?:(?:,?C|,)(?!#))?{_MODIFIER})*+)?"
_NOUN = r"(?:[NAPVRC#]-(?=[NAPVRC#]))*+N(?:-[NRA#])*+"
_PHRASE = re.compile(rf"{_MODIFIERS}{_NOUN}(?:S{_MODIFIERS}{_NOUN}|{_NOUN})*+")
_BEFORE_PARTICIPLE = re.compile(r"(?:[D#][ARP#C,]*|-)$")
_AFTER_PARTICIPLE = {"NOUN", "PROPN", "ADJ", "NUM", "VERB"}


class Phrase(NamedTuple):
    """The words from `start` to before `end`; `head` is its noun, if it has one."""

    start: int
    end: int
    head: int | None


def noun_phrases(doc: Doc, words: Sequence[Word]) -> Iterator[Phrase]:
    """The noun phrases of a caption, in its order; they do not overlap.

    The parser's noun chunks where there is one, determiners included; else runs of words that
    begin behind the determiner and end with a noun.
    """
    if doc.has_annotation("DEP"):
        for chunk in doc.noun_chunks:
            head = chunk.root.i
            yield Phrase(chunk.start, chunk.end, head if words[head].is_noun else None)
    else:
        for match in _PHRASE.finditer(_letters(words)):
            nouns = (i for i in reversed(range(*match.span())) if words[i].is_noun)
            yield Phrase(*match.span(), next(nouns, None))


def is_attributive(word: Word, words: Sequence[Word]) -> bool:
    """Whether a word is a participle with a word behind it that it may describe."""
    behind = words[word.at + 1 : word.at + 2]
    return word.is_participle and any(other.pos in _AFTER_PARTICIPLE for other in behind)


def _letters(words: Sequence[Word]) -> str:
    """One letter for each word."""
    letters = ""
    for word in words:
        letters += _PARTICIPLE if _is_before_noun(word, words, letters) else _letter(word)
    return letters


def _letter(word: Word) -> str:
    if word.text in {"-", ","}:  # BLIP puts spaces around its hyphens: "a snow - covered hill"
        return word.text
    if word.pos == "PART" and word.text[0] in "'’":
        return "S"
    return _LETTERS.get(word.pos, _OTHER)


def _is_before_noun(word: Word, words: Sequence[Word], before: str) -> bool:
    """Whether a participle stands between a determiner or number and a noun: "a parked car"."""
    return is_attributive(word, words) and _BEFORE_PARTICIPLE.search(before) is not None

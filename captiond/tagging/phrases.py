"""The noun phrases of a caption, from the pipeline's parser or from the parts of speech.

For a pipeline without a parser, each token becomes one letter that stands for its part of speech,
and a regular expression matches the phrases in the string of letters. The phrases equal spaCy's
noun chunks, without the determiners and pronouns, which no tag keeps: "brown and white dog",
"woman's red dress", "two-year-old girl", "snow covered hill".
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from captiond.tagging.spacy_parts import Doc
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
_PARTICIPLE = "P"  # a participle before a noun, where it acts as an adjective

# Possessive quantifiers (`*+`) and look-aheads prevent backtracking: a caption may be hundreds of
# tokens in any order, and the search must stay fast for all of them.
_NOUN_AHEAD = r"(?=[ARPC#,-]*N)"
_COMPOUND_ADJECTIVE = rf"(?:#-?)?N-?A{_NOUN_AHEAD}"  # two-year-old, snow covered
_MODIFIER = rf"(?:{_COMPOUND_ADJECTIVE}|R?(?:[NAPRC#]-)*+[AP#](?!-))"
_MODIFIERS = rf"(?:{_MODIFIER}(?:(?:(?:,?C|,)(?!#))?{_MODIFIER})*+)?"
_NOUN = r"(?:[NAPVRC#]-(?=[NAPVRC#]))*+N(?:-[NRA#])*+"
_PHRASE = re.compile(rf"{_MODIFIERS}{_NOUN}(?:S{_MODIFIERS}{_NOUN}|{_NOUN})*+")
_BEFORE_PARTICIPLE = re.compile(r"(?:[D#][ARP#C,]*|-)$")
_AFTER_PARTICIPLE = {"NOUN", "PROPN", "ADJ", "NUM", "VERB"}


class Phrase(NamedTuple):
    """The words from index `start` to before `end`.

    `head` is the index of the last noun, or None if there is none.
    """

    start: int
    end: int
    head: int | None


def noun_phrases(doc: Doc, words: Sequence[Word]) -> Iterator[Phrase]:
    """Yield the noun phrases of a caption, in the caption's order. Phrases do not overlap.

    If the pipeline has a parser, the phrases are its noun chunks, with their determiners. Otherwise
    a phrase begins after the determiner and ends with a noun.
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
    """Return whether a word is a participle and the next word is one that it can describe."""
    following = words[word.at + 1 : word.at + 2]
    return word.is_participle and any(other.pos in _AFTER_PARTICIPLE for other in following)


def _letters(words: Sequence[Word]) -> str:
    """Return a string with one letter for each word."""
    letters = ""
    for word in words:
        letters += _PARTICIPLE if _is_before_noun(word, words, letters) else _letter(word)
    return letters


def _letter(word: Word) -> str:
    if word.text in {"-", ","}:  # BLIP writes spaces around hyphens: "a snow - covered hill"
        return word.text
    if word.pos == "PART" and word.text[0] in "'’":
        return "S"
    return _LETTERS.get(word.pos, _OTHER)


def _is_before_noun(word: Word, words: Sequence[Word], before: str) -> bool:
    """Return whether a participle is between a determiner or number and a noun: "a parked car"."""
    return is_attributive(word, words) and _BEFORE_PARTICIPLE.search(before) is not None

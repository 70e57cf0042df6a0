"""Where the noun phrases of a caption are: from the parser, or else from the parts of speech.

Without a parser each token becomes one letter and a regular expression finds the phrases. They
come out as spaCy's noun chunks would, but for determiners and pronouns, which no tag keeps:
"a brown and white dog", "the woman's red dress", "a two-year-old girl", "a snow covered hill".
"""

import re
from collections.abc import Iterator

from spacy.tokens import Doc, Span, Token

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


def noun_phrases(doc: Doc) -> Iterator[Span]:
    """The noun phrases of a caption, in its order; they do not overlap.

    The parser's noun chunks where there is one, determiners included; else runs of tokens that
    begin behind the determiner and end with a noun.
    """
    if doc.has_annotation("DEP"):
        yield from doc.noun_chunks
    else:
        for match in _PHRASE.finditer(_letters(doc)):
            yield doc[match.start() : match.end()]


def _letters(doc: Doc) -> str:
    """One letter for each token."""
    letters = ""
    for token in doc:
        letters += _PARTICIPLE if _is_before_noun(token, letters) else _letter(token)
    return letters


def _letter(token: Token) -> str:
    if token.text in {"-", ","}:  # BLIP puts spaces around its hyphens: "a snow - covered hill"
        return token.text
    if token.pos_ == "PART" and token.text[0] in "'’":
        return "S"
    return _LETTERS.get(token.pos_, _OTHER)


def _is_before_noun(token: Token, before: str) -> bool:
    """Whether a participle stands between a determiner or number and a noun: "a parked car"."""
    return is_attributive(token) and _BEFORE_PARTICIPLE.search(before) is not None


def is_attributive(token: Token) -> bool:
    """Whether a token is a participle with a word behind it that it may describe."""
    if token.pos_ != "VERB" or "Part" not in token.morph.get("VerbForm", []):
        return False
    return token.i + 1 < len(token.doc) and token.nbor().pos_ in _AFTER_PARTICIPLE

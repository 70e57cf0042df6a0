"""The regular forms of English words. words.txt lists the irregular ones."""

import re

_SIBILANT = re.compile(r"(s|x|z|ch|sh)$")
_CONSONANT_Y = re.compile(r"[^aeiou]y$")
_ONE_SHORT_SYLLABLE = re.compile(r"^[^aeiou]*[aeiou][bdgklmnprt]$")


def with_s(word: str) -> str:
    """Return the plural of a noun, or the third person of a verb: dishes, puppies, boats."""
    if _SIBILANT.search(word):
        return word + "es"
    if _CONSONANT_Y.search(word):
        return word[:-1] + "ies"
    return word + "s"


def with_ing(verb: str) -> str:
    """Return the present participle of a verb: riding, tying, hugging, holding."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return _doubled(verb) + "ing"


def with_ed(verb: str) -> str:
    """Return the regular past participle of a verb: parked, placed, carried, wrapped."""
    if verb.endswith("e"):
        return verb + "d"
    if _CONSONANT_Y.search(verb):
        return verb[:-1] + "ied"
    return _doubled(verb) + "ed"


def _doubled(verb: str) -> str:
    return verb + verb[-1] if _ONE_SHORT_SYLLABLE.match(verb) else verb

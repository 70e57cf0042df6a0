"""Where to end a caption that a limit has cut: "a red car in front of a tall" ends after "car"."""

import re

from captiond.wording.english import COLOURS, COMPOUND, FUNCTION_WORDS, NEVER_LAST, begins_phrase
from captiond.wording.looping import WORD

HAS_WORD = re.compile(r"\w")


def end_of_phrases(text: str, begin: int) -> int:
    """Return where the last phrase ends that is complete for certain; `begin` if none is.

    The last phrase of a text that was cut may lack words, also if it reads well: "a tall building"
    could have been "a tall building site". So it is left out, unless it is the only one.
    """
    end = last_boundary(text, begin)
    if end is not None:
        end = without_dangling(text, begin, end, FUNCTION_WORDS)
        if HAS_WORD.search(text, begin, end):
            return end
    return end_of_last_word(text, begin)


def end_of_last_word(text: str, begin: int) -> int:
    """Return the end of a text that was cut, without words that need another one behind them."""
    return without_dangling(text, begin, len(text), FUNCTION_WORDS)


def last_boundary(text: str, begin: int) -> int | None:
    """Return where the last phrase of a text begins, or None if there is only one."""
    words = list(WORD.finditer(text, begin))
    spelled = [word[0].lower() for word in words]
    for at in range(len(words) - 1, 0, -1):
        if begins_phrase(spelled[at]) and not joins_colours(spelled, at):
            return start_of_compound(text, begin, words[at].start())
    return None


def joins_colours(spelled: list[str], at: int) -> bool:
    """Return whether a word is the "and" of "black and white"."""
    around = spelled[at - 1 : at] + spelled[at + 1 : at + 2]
    return spelled[at] == "and" and len(around) == 2 and COLOURS.issuperset(around)


def start_of_compound(text: str, begin: int, start: int) -> int:
    """Return where the words begin that begin a phrase together with the word at `start`."""
    for compound in COMPOUND.finditer(text, begin):
        if compound.start() < start < compound.end():
            return compound.start()
    return start


def without_dangling(text: str, begin: int, end: int, dangling: frozenset[str]) -> int:
    """Return the end of a text without the words and marks in front of it that cannot be last."""
    words = list(WORD.finditer(text, begin, end))
    while words and (words[-1][0].lower() in dangling or not HAS_WORD.match(words[-1][0])):
        if words[-1][0] in "\"')%!?.":
            break
        at = start_of_compound(text, begin, words[-1].start())
        words = [word for word in words[:-1] if word.start() < at]
    return words[-1].end() if words else begin


def end_of_sentence(text: str, begin: int) -> int:
    """Return the end of a text that the model has ended, without words that end no sentence."""
    return without_dangling(text, begin, len(text), NEVER_LAST)

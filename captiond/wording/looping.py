"""Captions that repeat themselves: "a hat on top of a hat on top of", "ray ban ray ban", "fefefe".

What some people would say twice is no loop: "a cat next to a cat", "two cows side by side by a
fence", "a man and a man and a woman".
"""

import re
from dataclasses import dataclass

from captiond.wording.english import FUNCTION_WORDS

WORD = re.compile(r"\w+|[^\w\s]")
# Letters that a word repeats more often than laughter does, as "fe" in "gifefefefe".
STUTTER = re.compile(r"\S*?([^\W\d_]{1,4}?)\1{4,}\S*")


@dataclass(frozen=True, slots=True)
class Repeat:
    """Characters to remove. A loop `runs_out` if nothing but the loop follows up to the end."""

    start: int
    end: int
    runs_out: bool


def first_repeat(text: str, begin: int) -> Repeat | None:
    """Return what is to be removed of the first loop after `begin`; None if there is none."""
    words = list(WORD.finditer(text, begin))
    spelled = [word[0].lower() for word in words]
    for period in range(1, len(words) // 2 + 1):
        length = 0  # of the words that repeat the word one period before
        for at in range(period, len(words)):
            length = length + 1 if spelled[at] == spelled[at - period] else 0
            if length and period + length >= needed(spelled[at - period + 1 : at + 1]):
                first = at - length - period + 1
                end = end_of_run(spelled, period, at)
                return removal(text, words, first, period, end)
    return stutter(text, begin)


def needed(repeated: list[str]) -> int:
    """Return how many words there must be until words that are repeated are a loop."""
    period = len(repeated)
    has_function_word = any(word in FUNCTION_WORDS for word in repeated)
    if "," in repeated:  # a list may name several of a kind
        return 4 * period
    if period == 1:
        return 2 if has_function_word else 3
    if period == 2:
        return 6 if has_function_word else 4
    return 8 if period == 3 else 2 * period


def end_of_run(spelled: list[str], period: int, at: int) -> int:
    """Return the number of the word that ends the repetition that the word `at` belongs to."""
    end = at + 1
    while end < len(spelled) and spelled[end] == spelled[end - period]:
        end += 1
    return end


def removal(text: str, words: list[re.Match[str]], first: int, period: int, end: int) -> Repeat:
    """Return what to remove of a run of words: all but its first period.

    "rows and rows and rows of chairs" keeps "rows" only, as the run ends within a period.
    """
    kept = words[first + period - 1].end()
    if end == len(words):
        return Repeat(kept, len(text), runs_out=True)
    whole = (end - first) // period * period
    rest = end - first - whole
    if rest and words[end - 1][0].lower() not in FUNCTION_WORDS:
        return Repeat(words[first + rest - 1].end(), words[end - 1].end(), runs_out=False)
    return Repeat(kept, words[first + whole - 1].end(), runs_out=False)


def stutter(text: str, begin: int) -> Repeat | None:
    """Return a word that repeats its letters."""
    found = STUTTER.search(text, begin)
    if found is None:
        return None
    start = len(text[: found.start()].rstrip())
    return Repeat(start, found.end(), runs_out=found.end() == len(text))

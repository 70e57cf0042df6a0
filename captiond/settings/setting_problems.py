"""What is wrong with a setting, in words for the person who wrote it."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from pydantic_core import ErrorDetails

MISSPELT = 0.7  # the least ratio of difflib for a misspelt name
MAX_MISSPELT = 60  # characters; the time of a comparison grows with the length of a name
# pydantic's words for the messages that people see most, and ours.
WORDS = (
    (re.compile(r"^Value error, "), ""),
    (re.compile(r"^Input should be an? valid (\w+)(, .*)?$"), r"must be a \1"),
    (re.compile(r"^Input should be greater than or equal to "), "must be at least "),
    (re.compile(r"^Input should be less than or equal to "), "must be at most "),
    (re.compile(r"^\w+ should have at least (\d+ items?) after .*$"), r"must have at least \1"),
    (re.compile(r"^Input should "), "must "),
    (re.compile(r"^must be a integer"), "must be a whole number"),
    (re.compile(r"^must be a boolean"), "must be true or false"),
    (re.compile(r"^must be a string"), "must be a text"),
)


def in_words(problem: ErrorDetails) -> str:
    """Return what must be changed, as the end of a sentence."""
    message = problem["msg"]
    for pattern, words in WORDS:
        message = pattern.sub(words, message)
    return message


def similar(steps: Sequence[str], known: Mapping[str, Sequence[str]]) -> str | None:
    """Return the setting that was meant by a section, or by a section and a key, or None.

    `known` are the keys of each section. The answer is a section, or `section.key`.
    """
    if len(steps) == 1:
        return nearest(steps[0], [*known])
    section, key = steps[:2]
    if meant := nearest(key, known.get(section, ())):
        return f"{section}.{meant}"
    others = (f"{other}.{key}" for other, keys in known.items() if key in keys)
    return next(others, None)


def nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the one of the names of which `name` looks like a misspelling, or None."""
    if len(name) > MAX_MISSPELT:
        return None
    return next(iter(get_close_matches(name.lower(), names, n=1, cutoff=MISSPELT)), None)

"""Entries of a 422 list in FastAPI's shape: which field is wrong, and why."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal

# The least ratio of difflib for a misspelt name. "num_beam" has 0.94, "max_tokens" has 0.83;
# "captions" and "prompt_id", which clients may send for themselves, have 0.80.
MISSPELT = 0.82
MAX_MISSPELT = 40  # characters; the time of a comparison grows with the length of a name

SHOWN = (str, int, float)

Problem = dict[str, object]


def problem(
    kind: str,
    name: str | Sequence[str | int],
    message: str,
    value: object,
    place: Literal["body", "query"] = "body",
) -> Problem:
    """Return the entry for a field: its name, or the keys and positions that lead to it.

    `value` is shown unless it is an object or an array.
    """
    path = [name] if isinstance(name, str) else list(name)
    shown = value if isinstance(value, SHOWN) else None
    return {"type": kind, "loc": [place, *path], "msg": message, "input": shown}


def extra(
    name: str | Sequence[str | int],
    value: object,
    hint: str,
    place: Literal["body", "query"] = "body",
) -> Problem:
    """Return the entry for a field that does not belong there."""
    message = f"Extra inputs are not permitted; {hint}"
    return problem("extra_forbidden", name, message, value, place)


@lru_cache(maxsize=1024)
def nearest(name: str, takes: tuple[str, ...], cutoff: float = MISSPELT) -> str | None:
    """Return the field of which `name` looks like a misspelling, or None."""
    if len(name) > MAX_MISSPELT:
        return None
    return next(iter(get_close_matches(name.lower(), takes, n=1, cutoff=cutoff)), None)

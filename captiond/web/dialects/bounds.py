"""Texts and numbers within the bounds that a JSON Schema sets. Pure."""

import math
from collections.abc import Mapping
from typing import Any

from captiond.web.dialects.refusals import SchemaRefused

Schema = Mapping[str, Any]
MAX_PADDING = 1000  # characters that `minLength` may ask for
PERCENT = 100


def text_within(schema: Schema, text: str) -> str:
    """Return a text that is as long as the schema wants it. It is cut between words if it can be.

    Raises:
        SchemaRefused: the lengths are not numbers, or far too large.
    """
    least, most = count(schema, "minLength", 0), count(schema, "maxLength", len(text))
    if least > MAX_PADDING:
        raise SchemaRefused("the JSON schema asks for a text that is too long")
    if len(text) > most:
        cut = text[:most]
        if not text[most].isspace() and " " in cut:
            cut = cut.rpartition(" ")[0]
        text = cut.rstrip()
    return text.ljust(least)


def number_within(schema: Schema, known: float | None, *, whole: bool) -> float | int:
    """Return a number within the schema's bounds: the one that is known, or the least in size.

    A share in [0, 1] is scaled if the schema allows larger numbers: to its maximum, or to percent
    if it wants whole numbers and has no maximum.

    Raises:
        SchemaRefused: no number is within the bounds.
    """
    least = bound(schema, "minimum", "exclusiveMinimum", -math.inf)
    most = bound(schema, "maximum", "exclusiveMaximum", math.inf)
    value = 0.0 if known is None else float(known)
    if isinstance(known, float):
        value *= scale(most, whole=whole)
    step = real(schema.get("multipleOf")) or (1 if whole else 0)
    value = min(max(value, least), most)
    if step > 0 and math.isfinite(value / step):
        value = round(value / step) * step
        value += step * (value < least) - step * (value > most)
    if value == schema.get("exclusiveMinimum") or value == schema.get("exclusiveMaximum"):
        value = nudged(value, least, most, step)
    if not (math.isfinite(value) and least <= value <= most):
        raise SchemaRefused("no number is within the bounds of the JSON schema")
    return int(value) if whole else round(value, 6)


def scale(most: float, *, whole: bool) -> float:
    """Return what a share of 1 is, if `most` is the largest number."""
    if math.isinf(most):
        return PERCENT if whole else 1
    return max(most, 1)


def nudged(value: float, least: float, most: float, step: float) -> float:
    """Return a number beside one that is excluded."""
    if value == least:
        return value + step if step else (min(most, least + 1) + least) / 2
    return value - step if step else (max(least, most - 1) + most) / 2


def bound(schema: Schema, inclusive: str, exclusive: str, none: float) -> float:
    """Return the tighter one of two bounds."""
    found = [real(schema.get(name)) for name in (inclusive, exclusive)]
    return (max if none < 0 else min)([each for each in found if each is not None], default=none)


def real(value: object) -> float | None:
    """Return a number, or None for anything else, as for `exclusiveMinimum: true` of old drafts.

    Raises:
        SchemaRefused: a double cannot hold it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        raise SchemaRefused("the JSON schema has a number that is too large") from None


def count(schema: Schema, name: str, default: int) -> int:
    """Return a number of characters or items. Raises SchemaRefused."""
    value = schema.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise SchemaRefused(f"{name} of the JSON schema is not a number of 0 or more")
    return int(value)

"""An outcome and a task's options as they stand in a JSON column, and back."""

from dataclasses import asdict
from typing import Any

from captiond.jobs import (
    DEFAULT_OPTIONS,
    Caption,
    Captioned,
    Generation,
    Options,
    Outcome,
    Refused,
)
from captiond.tags import Category, Kind, Tag, TagOptions

# What reading a row raises that is damaged, or written by a newer captiond.
UNREADABLE_JSON = (ValueError, TypeError, KeyError, AttributeError)


def to_json(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        return shallow(outcome)
    return {
        **shallow(outcome),
        "tag_details": [shallow(tag) for tag in outcome.tag_details],
        "captions": [shallow(caption) for caption in outcome.captions],
    }


def shallow(value: Any) -> dict[str, Any]:
    """The fields of a dataclass with slots; `asdict` copies what is in them, ten times as long."""
    return {name: getattr(value, name) for name in value.__slots__}


def from_json(value: dict[str, Any]) -> Outcome:
    if "error" in value:
        return Refused(**value)
    details = tuple(map(tag_from_json, value.get("tag_details", ())))
    captions = tuple(Caption(**caption) for caption in value.get("captions", ()))
    tags = tuple(value["tags"])
    return Captioned(**{**value, "tags": tags, "tag_details": details, "captions": captions})


def tag_from_json(value: dict[str, Any]) -> Tag:
    return Tag(**{**value, "category": Category(value["category"]), "kind": Kind(value["kind"])})


def options_to_json(options: Options) -> dict[str, Any] | None:
    """None, which is NULL in the column, for a request that asks for nothing."""
    return None if options == DEFAULT_OPTIONS else asdict(options)


def options_from_json(value: dict[str, Any] | None) -> Options:
    if value is None:
        return DEFAULT_OPTIONS
    asked = value.get("generation")
    generation = None if asked is None else Generation(**asked)
    tags = tag_options_from_json(value["tags"])
    return Options(**{**value, "generation": generation, "tags": tags})


def tag_options_from_json(value: dict[str, Any]) -> TagOptions:
    kinds, categories = value["kinds"], value["categories"]
    return TagOptions(
        kinds=None if kinds is None else tuple(map(Kind, kinds)),
        categories=None if categories is None else tuple(map(Category, categories)),
        deny=tuple(value["deny"]),
        allow=tuple(value["allow"]),
        min_length=value["min_length"],
        max_number=value["max_number"],
    )

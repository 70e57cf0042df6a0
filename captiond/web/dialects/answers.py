"""The text of an answer: the caption, or JSON. Pure."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from captiond.web.dialects.filling import fill
from captiond.web.dialects.findings import Findings, Label

Schema = Mapping[str, Any]
# What an answer is to be: None is a caption, True is JSON, and a schema is JSON by this schema.
Wanted = Schema | bool | None
NOTHING = Findings("", ("",), None, (), (), 1, 1)


def check_wanted(wanted: Wanted) -> None:
    """Return if an answer can be given in this form, before there is a caption.

    Raises:
        SchemaRefused
    """
    if isinstance(wanted, Mapping):
        fill(wanted, NOTHING)


def answer_of(image: Findings, wanted: Wanted) -> str:
    """Return the answer about an image, or about several together.

    Raises:
        SchemaRefused
    """
    if not wanted and not isinstance(wanted, Mapping):
        return image.caption
    value = fill(wanted, image) if isinstance(wanted, Mapping) else free_form(image)
    return json.dumps(value, ensure_ascii=False)


def alternatives(image: Findings, number: int) -> list[Findings]:
    """Return so many views of an image, each with another caption. The last one may be repeated."""
    captions = [*image.captions, *image.captions[-1:] * number][:number]
    return [replace(image, caption=caption) for caption in captions]


def free_form(image: Findings) -> dict[str, Any]:
    """Return what JSON has if nobody says what it should have."""
    return {
        "caption": image.caption,
        "description": image.caption,
        "confidence": image.confidence,
        "tags": [tag.name for tag in image.tags],
        "keywords": [tag.name for tag in image.tags],
        "categories": image.categories,
        "labels": [label_fields(label) for label in image.labels],
    }


def label_fields(label: Label) -> dict[str, Any]:
    """Return the fields of a label. A confidence that is not known is left out."""
    fields: dict[str, Any] = {"name": label.name}
    if label.confidence is not None:
        fields["confidence"] = label.confidence
    return {**fields, "topicality": label.topicality, "categories": label.categories}


def words(text: str) -> int:
    """Return the number of words, which stands for that of tokens: captiond does not count them."""
    return len(text.split())

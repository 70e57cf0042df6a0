"""The result of an image as a row: the same fields for each format of files, and for Ray."""

from typing import Any

from captiond.jobs import Captioned, Outcome

FIELDS = (
    "caption",
    "tags",
    "score",
    "confidence",
    "alt_text",
    "raw_caption",
    "caption_language",
    "caption_en",
    "width",
    "height",
    "sha256",
    "model",
    "error",
    "code",
)


def result_fields(outcome: Outcome, sha256: str | None) -> dict[str, Any]:
    """Return the fields of an outcome. Those that it has not are None.

    `sha256` is the hash of the image's bytes, or None if they were not read.
    """
    fields: dict[str, Any] = dict.fromkeys(FIELDS)
    fields["sha256"] = sha256
    if not isinstance(outcome, Captioned):
        return {**fields, "error": outcome.error, "code": outcome.code}
    return {
        **fields,
        "caption": outcome.caption,
        "tags": list(outcome.tags),
        "score": outcome.score,
        "confidence": outcome.confidence,
        "alt_text": outcome.alt_text,
        "raw_caption": outcome.caption if outcome.raw_caption is None else outcome.raw_caption,
        "caption_language": outcome.caption_language,
        "caption_en": outcome.caption_en,
        "width": outcome.width,
        "height": outcome.height,
        "model": outcome.model,
    }

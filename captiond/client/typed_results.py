"""What the service answers, as typed values. Fields that this version does not know are ignored."""

from typing import Any

import msgspec


class CaptionTag(msgspec.Struct, frozen=True, kw_only=True):
    """A tag. `start` and `end` are the characters of the caption that it comes from.

    A tag that the vocabulary gives has a `score`. One that only the vocabulary gives has no
    characters. A tag that was translated has its English text in `tag_en`.
    """

    tag: str
    lemma: str
    category: str
    kind: str
    start: int | None
    end: int | None
    confidence: float | None = None
    score: float | None = None
    tag_en: str | None = None


class CaptionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of several captions of an image. `score` is the mean log-probability of its tokens."""

    caption: str
    score: float
    confidence: float | None = None
    raw_caption: str | None = None
    caption_en: str | None = None


class ImageCaption(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one image: its caption and tags, or the reason why it has none.

    `name` is the name of the file as the service knows it. `error` and `code` are None if the image
    has a caption. `width` and `height` are in pixels, of the upright image. `alt_text` is a
    sentence for screen readers, `raw_caption` is what the model has written, and `notes` say what
    of the request has no effect. If the caption was translated, `caption_language` is its language,
    and `caption_en` the English caption, to whose characters the tags refer.
    """

    name: str
    caption: str | None = None
    tags: tuple[str, ...] = ()
    error: str | None = None
    code: str | None = None
    model: str | None = None
    cached: bool = False
    score: float | None = None
    confidence: float | None = None
    alt_text: str | None = None
    raw_caption: str | None = None
    caption_language: str | None = None
    caption_en: str | None = None
    notes: tuple[str, ...] = ()
    captions: tuple[CaptionChoice, ...] = ()
    tag_details: tuple[CaptionTag, ...] = ()
    width: int | None = None
    height: int | None = None
    sha256: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the image has a caption."""
        return self.error is None


class TaskCountsSoFar(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of images: all, finished ones, and finished ones without a caption."""

    total: int = 0
    done: int = 0
    failed: int = 0


class TaskReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a task, without its results.

    `status` is PENDING, PROCESSING, COMPLETED, FAILED or CANCELLED. Times are RFC 3339 in UTC.
    While the task waits, `queue_position` and `eta_seconds` estimate for how long.
    """

    task_id: str
    status: str
    message: str
    progress: TaskCountsSoFar = TaskCountsSoFar()
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    queue_position: int | None = None
    eta_seconds: float | None = None

    @property
    def finished(self) -> bool:
        """Whether no image of the task waits or is being captioned."""
        return self.status not in {"PENDING", "PROCESSING"}


def image_caption(fields: dict[str, Any]) -> ImageCaption:
    """Return the result of one image. The calls of the API name the file in different fields.

    Raises:
        msgspec.ValidationError: a field is missing, or has another type.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    given["name"] = fields.get("image_path", fields.get("filename"))
    return msgspec.convert(given, ImageCaption)


def task_report(fields: dict[str, Any]) -> TaskReport:
    """Return the state of a task.

    Raises:
        msgspec.ValidationError: a field is missing, or has another type.
    """
    return msgspec.convert(fields, TaskReport)

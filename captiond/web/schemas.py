"""The JSON bodies of responses: their types, and the functions that build them.

The types are TypedDicts. pydantic can check them and describe them as a JSON Schema, as it can its
own models, but a body is built as a plain dict: 10,000 results take 0.1 s, as models 1.3 s. The
fields stand in the order in which clients get them. Those of the replaced service come first.
Times are RFC 3339 in UTC, sizes are in pixels.
"""

import json
from datetime import UTC, datetime
from typing import NotRequired

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from captiond.jobs import (
    Caption,
    Captioned,
    Outcome,
    Refused,
    Status,
    TaskCounts,
    TaskState,
    TaskView,
    message,
)
from captiond.messages import Health
from captiond.tags import Category, Kind, Tag

# ---------------------------------------------------------------- captions


class TagDetail(TypedDict):
    """A tag, its lemma and category, and the characters of the caption that it comes from.

    `confidence` is how sure the model is of these characters, or null if that is not known. A tag
    that the vocabulary gives has a `score`; one that only the vocabulary gives has no characters.
    """

    tag: str
    tag_en: NotRequired[str]
    lemma: str
    category: Category
    kind: Kind
    start: int | None
    end: int | None
    confidence: float | None
    score: NotRequired[float]


class ScoredCaption(TypedDict):
    """One of several captions. `score` is the mean log-probability of its tokens."""

    caption: str
    caption_en: NotRequired[str]
    raw_caption: str
    score: float
    confidence: float | None


class CaptionLanguage(TypedDict):
    """The language of a caption that was translated, and the English caption."""

    caption_language: NotRequired[str]
    caption_en: NotRequired[str]


class CaptionDetails(CaptionLanguage):
    """What captiond adds to the fields of the replaced service.

    `confidence` is in [0, 1]. It and `alt_text` are null if an earlier version has stored the
    caption. `notes` is there if an option has no effect, and `captions` if the request asks for
    more than one. `caption_language` and `caption_en` are there if the caption was translated.
    `width` and `height` are those of the upright image.
    """

    model: str
    cached: bool
    score: float | None
    confidence: float | None
    alt_text: str | None
    raw_caption: str
    notes: NotRequired[list[str]]
    captions: NotRequired[list[ScoredCaption]]
    width: int
    height: int
    sha256: str | None
    tag_details: list[TagDetail]


class NamedCaption(TypedDict):
    """The fields that the replaced service returns for one image. `processing_time` in seconds."""

    filename: str
    caption: str
    tags: list[str]
    processing_time: float


class CaptionResponse(NamedCaption, CaptionDetails):
    """The caption and the tags of one image."""


class ResultFields(TypedDict):
    """The fields that the replaced service returns for a captioned image among several."""

    image_path: str
    caption: str
    tags: list[str]
    error: None


class CaptionedResult(ResultFields, CaptionDetails):
    """A captioned image among several."""


class FailedResult(TypedDict):
    """An image among several that has no caption: `error` is for people, `code` for programs."""

    image_path: str
    caption: None
    tags: None
    error: str
    code: str
    sha256: str | None


ImageResult = CaptionedResult | FailedResult


class BatchResponse(TypedDict):
    """The results of several images, in upload order. `total_processing_time` in seconds."""

    results: list[ImageResult]
    total_processing_time: float


# ---------------------------------------------------------------- tasks


class TaskAccepted(TypedDict):
    """A task is stored and will be finished."""

    message: str
    task_id: str


class TaskProgress(TypedDict):
    """Numbers of images: all, finished ones, and finished ones without a caption."""

    total: int
    done: int
    failed: int


class TaskStatus(TypedDict):
    """A task. `result` has the finished images in upload order; it is null while all wait.

    `next_offset` is there if a part of the images was asked for: where the next part begins, or
    null after the last one. `queue_position` and `eta_seconds` are there while the task is PENDING:
    about how many images of other tasks come before its next one, and about how many seconds it
    takes until the task is finished, if it is known how fast images are finished.
    """

    task_id: str
    status: Status
    message: str
    result: list[ImageResult] | None
    error_details: None
    progress: TaskProgress
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    next_offset: NotRequired[int | None]
    queue_position: NotRequired[int]
    eta_seconds: NotRequired[int]


# ---------------------------------------------------------------- probes


class HealthReport(TypedDict):
    """Whether images can be captioned, and if not, why.

    `response_time` is a text in milliseconds, `timestamp` is in Unix seconds. `model` and
    `fallback` are there once a model was loaded, `warning` if it is not the model that the settings
    name, and `reasons` if no image can be captioned.
    """

    status: Health
    service: str
    version: str
    response_time: str
    timestamp: float
    model: NotRequired[str]
    fallback: NotRequired[bool]
    warning: NotRequired[str]
    reasons: NotRequired[list[str]]


class ProbeStatus(TypedDict):
    """The answer of a probe."""

    status: str


class VersionInfo(TypedDict):
    """Which service this is."""

    service: str
    version: str


# ---------------------------------------------------------------- errors


class FieldProblem(TypedDict):
    """One field that is missing or wrong. `loc` says where: "body" and the field's name."""

    type: str
    loc: list[str | int]
    msg: str
    input: object


class ErrorResponse(TypedDict):
    """An error: `detail` is for people, `code` for programs.

    `detail` is a list if fields are missing or wrong. `hint` says what to send if the request
    shows a misunderstanding. `reasons` are there if no image can be captioned.
    """

    detail: str | list[FieldProblem]
    code: str
    request_id: str
    hint: NotRequired[str]
    reasons: NotRequired[list[str]]


# ---------------------------------------------------------------- functions


def caption_response(
    filename: str, sha256: str | None, outcome: Captioned, seconds: float
) -> CaptionResponse:
    """Return the body for one captioned image; `seconds` is the time from the request on."""
    return {
        "filename": filename,
        "caption": outcome.caption,
        "tags": list(outcome.tags),
        "processing_time": round(seconds, 4),
        **caption_details(sha256, outcome),
    }


def image_result(filename: str, sha256: str | None, outcome: Outcome) -> ImageResult:
    """Return one image's entry in a list of results."""
    if isinstance(outcome, Refused):
        return {
            "image_path": filename,
            "caption": None,
            "tags": None,
            "error": outcome.error,
            "code": outcome.code,
            "sha256": sha256,
        }
    return {
        "image_path": filename,
        "caption": outcome.caption,
        "tags": list(outcome.tags),
        "error": None,
        **caption_details(sha256, outcome),
    }


def caption_details(sha256: str | None, outcome: Captioned) -> CaptionDetails:
    """Return what captiond adds to a caption."""
    details: CaptionDetails = {
        "model": outcome.model,
        "cached": outcome.cached,
        "score": outcome.score,
        "confidence": outcome.confidence,
        "alt_text": outcome.alt_text,
        "raw_caption": raw_text(outcome.caption, outcome.raw_caption),
        "notes": list(outcome.notes),
        "captions": [scored_caption(caption) for caption in outcome.captions],
        "width": outcome.width,
        "height": outcome.height,
        "sha256": sha256,
        "tag_details": [tag_detail(tag) for tag in outcome.tag_details],
    }
    if not outcome.notes:
        del details["notes"]
    if not outcome.captions:
        del details["captions"]
    if outcome.caption_language is not None and outcome.caption_en is not None:
        language: CaptionLanguage = {
            "caption_language": outcome.caption_language,
            "caption_en": outcome.caption_en,
        }
        return {**language, **details}
    return details


def scored_caption(caption: Caption) -> ScoredCaption:
    """Return one of several captions of an image."""
    fields: ScoredCaption = {
        "caption": caption.text,
        "raw_caption": raw_text(caption.text, caption.raw),
        "score": caption.score,
        "confidence": caption.confidence,
    }
    if caption.english is not None:
        fields["caption_en"] = caption.english
    return fields


def raw_text(text: str, raw: str | None) -> str:
    """Return what the model has written. `raw` is None if that is the text."""
    return text if raw is None else raw


def tag_detail(tag: Tag) -> TagDetail:
    """Return a tag's fields. `dataclasses.asdict` would take ten times as long."""
    detail: TagDetail = {
        "tag": tag.tag,
        "lemma": tag.lemma,
        "category": tag.category,
        "kind": tag.kind,
        "start": tag.start,
        "end": tag.end,
        "confidence": tag.confidence,
    }
    if tag.score is not None:
        detail["score"] = tag.score
    if tag.english is not None:
        detail["tag_en"] = tag.english
    return detail


def task_accepted(task_id: str, files: int) -> TaskAccepted:
    """Return the body for a new task of so many files."""
    return {
        "message": f"Batch captioning task accepted. {files} files queued. "
        "Check status for details.",
        "task_id": task_id,
    }


def task_status(task: TaskView) -> TaskStatus:
    """Return the body for a task: the answer of the status call, and a webhook's payload."""
    results = [
        image_result(image.filename, image.sha256, image.outcome)
        for image in task.images
        if image.outcome is not None
    ]
    return task_fields(task, task.counts, results)


def task_fields(
    task: TaskState | TaskView, counts: TaskCounts, results: list[ImageResult]
) -> TaskStatus:
    """Return the body for a task, with these results."""
    return {
        "task_id": task.id,
        "status": task.status,
        "message": message(task.status, counts),
        "result": None if task.status is Status.PENDING else results,
        "error_details": None,
        "progress": {"total": counts.total, "done": counts.done, "failed": counts.failed},
        "created_at": rfc3339(task.created_at),
        "started_at": rfc3339(task.started_at),
        "finished_at": rfc3339(task.finished_at),
    }


def encoded(body: object) -> bytes:
    """Return a body as JSON, byte for byte as Starlette's JSONResponse encodes it."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def rfc3339(seconds: float | None) -> str | None:
    """Return a Unix time as RFC 3339 has it, in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

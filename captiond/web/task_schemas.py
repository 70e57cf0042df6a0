"""The bodies of lists and events of tasks: their types, and the functions that build them."""

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from captiond.jobs import TaskCounts, TaskState
from captiond.web.schemas import (
    CaptionedResult,
    FailedResult,
    ImageResult,
    TaskProgress,
    task_fields,
)


class TaskItem(TypedDict):
    """A task without its results. Times are RFC 3339 in UTC."""

    task_id: str
    status: str
    message: str
    progress: TaskProgress
    created_at: str | None
    started_at: str | None
    finished_at: str | None


class TaskList(TypedDict):
    """A part of the list of tasks, the newest first. `next` is the cursor of the next part."""

    items: list[TaskItem]
    next: str | None


class Positioned(TypedDict):
    """Which image of the task a result belongs to: its place in upload order, from 0 on."""

    position: int


class CaptionedEvent(Positioned, CaptionedResult):
    """The data of an `image` event of a captioned image."""


class FailedEvent(Positioned, FailedResult):
    """The data of an `image` event of an image without a caption."""


ImageEvent = CaptionedEvent | FailedEvent


class ProgressEvent(TypedDict):
    """The data of a `progress` event."""

    status: str
    progress: TaskProgress


class ReconnectEvent(TypedDict):
    """The data of a `reconnect` event: why the stream ends although the task is not finished."""

    detail: str


class TaskResults(TypedDict):
    """The results of a task that is as this says. `complete` is false while images are open."""

    task_id: str
    status: str
    complete: bool
    results: list[ImageResult]


def task_item(state: TaskState, counts: TaskCounts) -> TaskItem:
    """Return a task without its results."""
    fields = task_fields(state, counts, [])
    return {
        "task_id": fields["task_id"],
        "status": fields["status"],
        "message": fields["message"],
        "progress": fields["progress"],
        "created_at": fields["created_at"],
        "started_at": fields["started_at"],
        "finished_at": fields["finished_at"],
    }

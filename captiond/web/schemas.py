"""What responses hold, field by field. Kept fields come first, in the kept order."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from captiond.jobs import Caption, ImageView, Outcome, Refused, Status, TaskView, message

Json = dict[str, Any]


def caption(filename: str, sha256: str | None, outcome: Outcome, seconds: float) -> Json:
    """The response to `POST /caption`; `outcome` is a caption there."""
    result = image_result(filename, sha256, outcome)
    kept = {
        "filename": filename,
        "caption": result.pop("caption"),
        "tags": result.pop("tags"),
        "processing_time": round(seconds, 4),
    }
    del result["image_path"], result["error"]
    return {**kept, **result}


def image_result(filename: str, sha256: str | None, outcome: Outcome) -> Json:
    """One image's entry in a list of results."""
    if isinstance(outcome, Refused):
        return {
            "image_path": filename,
            "caption": None,
            "tags": None,
            "error": outcome.error,
            "code": outcome.code,
            "sha256": sha256,
        }
    several = {"captions": [caption_entry(entry) for entry in outcome.captions]}
    return {
        "image_path": filename,
        "caption": outcome.caption,
        "tags": list(outcome.tags),
        "error": None,
        "model": outcome.model,
        "cached": outcome.cached,
        "score": outcome.score,
        **(several if outcome.captions else {}),
        "width": outcome.width,
        "height": outcome.height,
        "sha256": sha256,
        "tag_details": [asdict(tag) for tag in outcome.tag_details],
    }


def caption_entry(caption: Caption) -> Json:
    return {"caption": caption.text, "score": caption.score}


def task_accepted(task_id: str, files: int) -> Json:
    return {
        "message": f"Batch captioning task accepted. {files} files queued. "
        "Check status for details.",
        "task_id": task_id,
    }


def task_status(task: TaskView) -> Json:
    """A task as it stands; `result` holds the images that have ended, in upload order."""
    return {
        "task_id": task.id,
        "status": task.status.value,
        "message": message(task),
        "result": None if task.status is Status.PENDING else task_results(task.images),
        "error_details": None,
        "progress": {"total": len(task.images), "done": task.done, "failed": task.failed},
        "created_at": rfc3339(task.created_at),
        "started_at": rfc3339(task.started_at),
        "finished_at": rfc3339(task.finished_at),
    }


def task_results(images: tuple[ImageView, ...]) -> list[Json]:
    return [
        image_result(image.filename, image.sha256, image.outcome)
        for image in images
        if image.outcome is not None
    ]


def rfc3339(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

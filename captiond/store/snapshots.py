"""A task as one snapshot of the database, with a version that changes with its content."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, RowMapping, Select, Text, case, func, select, type_coerce

from captiond.jobs import Status, TaskView
from captiond.store.engine import Engine, reading
from captiond.store.results import image_view
from captiond.store.tables import ImageRow, TaskRow
from captiond.store.transitions import FAILED, OPEN

StoredImage = Row[str, str | None, str, str]  # file name, hash, status, result as JSON text


@dataclass(frozen=True, slots=True)
class TaskVersion:
    """The state of a task. Two snapshots of a task with equal versions have equal content.

    `attempts` is the number of claims of all its images. It distinguishes a retry from the first
    run.
    """

    status: Status
    started_at: float | None
    finished_at: float | None
    total: int
    done: int
    failed: int
    attempts: int


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """A task. `images` are the rows of its images in upload order, or None if they were not read.

    Making objects of 10,000 rows and parsing their results takes long, so `view` does it: a caller
    can run it in a thread.
    """

    id: str
    created_at: float
    version: TaskVersion
    images: Sequence[StoredImage] | None

    def view(self) -> TaskView:
        """Return the task as clients see it. The images must have been read."""
        assert self.images is not None
        return TaskView(
            id=self.id,
            status=self.version.status,
            created_at=self.created_at,
            started_at=self.version.started_at,
            finished_at=self.version.finished_at,
            images=tuple(
                image_view(filename, sha256, Status(status), result)
                for filename, sha256, status, result in self.images
            ),
        )


async def read_snapshot(
    engine: Engine, task_id: str, *, known: TaskVersion | None = None, limit: int | None = None
) -> TaskSnapshot | None:
    """Return a task, or None if there is no such task.

    The images are not read if the task's version is still `known`, nor if there are more than
    `limit` of them.

    Raises:
        StoreError: the database cannot be read now.
    """
    async with reading(engine) as connection:
        task = (await connection.execute(versions(task_id))).mappings().one_or_none()
        if task is None:
            return None
        created_at, version = task["created_at"], version_of(task)
        if version == known or (limit is not None and version.total > limit):
            return TaskSnapshot(task_id, created_at, version, None)
        images = (await connection.execute(images_of(task_id))).all()
    return TaskSnapshot(task_id, created_at, version, images)


def version_of(row: RowMapping) -> TaskVersion:
    return TaskVersion(
        status=Status(row["status"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        total=row["total"],
        done=row["done"],
        failed=row["failed"],
        attempts=row["attempts"],
    )


def versions(
    task_id: str,
) -> Select[float, str, float | None, float | None, int, int, int, int]:
    """Select the fields of a TaskVersion, and `created_at`."""
    done = case((ImageRow.status.not_in(OPEN), 1))
    failed = case((ImageRow.status == FAILED, 1))
    counts = (
        func.count(ImageRow.id).label("total"),
        func.count(done).label("done"),
        func.count(failed).label("failed"),
        func.coalesce(func.sum(ImageRow.attempt), 0).label("attempts"),
    )
    task = (TaskRow.created_at, TaskRow.status, TaskRow.started_at, TaskRow.finished_at)
    return (
        select(*task, *counts)
        .outerjoin(ImageRow, ImageRow.task_id == TaskRow.id)
        .where(TaskRow.id == task_id)
        .group_by(TaskRow.id)
    )


def images_of(task_id: str) -> Select[str, str | None, str, str]:
    """Select file name, hash, status and result of each image. The results stay JSON text."""
    result = type_coerce(ImageRow.result, Text)
    return (
        select(ImageRow.filename, ImageRow.sha256, ImageRow.status, result)
        .where(ImageRow.task_id == task_id)
        .order_by(ImageRow.position)
    )

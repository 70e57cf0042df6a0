"""A task and its images as one snapshot of the database."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Row,
    ScalarSelect,
    Select,
    String,
    Text,
    case,
    func,
    select,
    text,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.clients import RequestOrigin
from captiond.jobs import Status, TaskCounts, TaskState, TaskView
from captiond.store.engine import Engine, looking_up, reading
from captiond.store.expressions import one_of, rows_of
from captiond.store.results import Unreadable, image_view, options_from
from captiond.store.tables import ImageRow, TaskRow
from captiond.store.transitions import FAILED

NAMED = rows_of("named", {"task_id": String()})
STATES = select(
    TaskRow.id,
    TaskRow.status,
    TaskRow.created_at,
    TaskRow.started_at,
    TaskRow.finished_at,
    TaskRow.revision,
    TaskRow.open_images,
)
# The condition of an index, word for word; SQLite would not use it for one with parameters.
UNCAPTIONED = text("images.status IN ('FAILED', 'CANCELLED')")
FAILURES = func.count(case((ImageRow.status == FAILED, 1)))
# Position, file name, hash, status, result as JSON text.
StoredImage = Row[int, str, str | None, str, str]


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """A task, the numbers of all its images, and the rows of some of them in upload order.

    Making objects of 10,000 rows and parsing their results takes long, so `view` does it: a caller
    can run it in a thread.
    """

    state: TaskState
    counts: TaskCounts
    images: Sequence[StoredImage]

    def view(self) -> TaskView:
        """Return the task as clients see it. All its images must have been read."""
        state = self.state
        images = (
            image_view(filename, sha256, Status(status), result)
            for _, filename, sha256, status, result in self.images
        )
        return TaskView(
            state.id,
            state.status,
            state.created_at,
            state.started_at,
            state.finished_at,
            tuple(images),
        )


async def read_state(engine: Engine, task_id: str) -> TaskState | None:
    """Return a task without its images, or None if there is no such task. This takes one look-up.

    Raises:
        StoreError: The database cannot be read now.
    """
    async with looking_up(engine) as connection:
        return await state_of(connection, task_id)


async def read_states(engine: Engine, task_ids: Iterable[str]) -> dict[str, TaskState]:
    """Return those of the tasks that exist, by their ids. This takes one statement.

    Raises:
        StoreError: The database cannot be read now.
    """
    query = STATES.where(one_of(TaskRow.id, select(NAMED.c.task_id)))
    named = json.dumps([[task_id] for task_id in task_ids])
    async with looking_up(engine) as connection:
        rows = (await connection.execute(query, {"named": named})).all()
    return {row.id: task_state(row) for row in rows}


async def read_counts(engine: Engine, task_id: str) -> TaskCounts:
    """Return the numbers of a task's images.

    Raises:
        StoreError: The database cannot be read now.
    """
    async with looking_up(engine) as connection:
        return (await counts(connection, [task_id]))[task_id]


async def read_snapshot(
    engine: Engine, task_id: str, *, first: int = 0, limit: int | None = None
) -> TaskSnapshot | None:
    """Return a task with its images from the position `first` on, at most `limit` of them.

    Return None if there is no such task.

    Raises:
        StoreError: The database cannot be read now.
    """
    async with reading(engine) as connection:
        state = await state_of(connection, task_id)
        if state is None:
            return None
        numbers = (await counts(connection, [task_id]))[task_id]
        images = images_of(task_id).where(ImageRow.position >= first).limit(limit)
        return TaskSnapshot(state, numbers, (await connection.execute(images)).all())


async def counts(connection: AsyncConnection, task_ids: Sequence[str]) -> dict[str, TaskCounts]:
    """Return the numbers of the images of these tasks, by the ids of the tasks."""
    rows = await connection.execute(counts_of(*task_ids))
    return {
        task_id: TaskCounts(total, total - still_open, total - still_open - uncaptioned, failed)
        for task_id, total, still_open, uncaptioned, failed in rows
    }


async def state_of(connection: AsyncConnection, task_id: str) -> TaskState | None:
    row = (await connection.execute(STATES.where(TaskRow.id == task_id))).one_or_none()
    return None if row is None else task_state(row)


def task_state(row: Row[str, str, float, float | None, float | None, int, int]) -> TaskState:
    task_id, status, created_at, started_at, finished_at, revision, open_images = row
    return TaskState(
        task_id, Status(status), created_at, started_at, finished_at, revision, open_images
    )


def counts_of(*task_ids: str) -> Select[str, int, int, int, int]:
    """Select of tasks the id and the numbers of images: all, open, uncaptioned and failed ones.

    Positions begin at 0 and have no gaps, the task counts its open images, and an index has only
    the images that are finished without a caption. So few images are read.
    """
    last = select(ImageRow.position).order_by(ImageRow.position.desc()).limit(1)
    uncaptioned, failed = (select(number).where(UNCAPTIONED) for number in (func.count(), FAILURES))
    return select(
        TaskRow.id,
        of_task(last) + 1,
        TaskRow.open_images,
        of_task(uncaptioned),
        of_task(failed),
    ).where(TaskRow.id.in_(task_ids))


def of_task(images: Select[int]) -> ScalarSelect[int]:
    """Select a number of the images of the enclosing statement's task."""
    return images.where(ImageRow.task_id == TaskRow.id).correlate(TaskRow).scalar_subquery()


def images_of(task_id: str) -> Select[int, str, str | None, str, str]:
    """Select the fields of a StoredImage, in upload order."""
    result = type_coerce(ImageRow.result, Text)
    return (
        select(ImageRow.position, ImageRow.filename, ImageRow.sha256, ImageRow.status, result)
        .where(ImageRow.task_id == task_id)
        .order_by(ImageRow.position)
    )


async def read_origin(engine: Engine, task_id: str) -> RequestOrigin | None:
    """Return the request that a task came with, None if that is not known.

    Raises:
        StoreError: The database cannot be read now.
    """
    query = select(type_coerce(TaskRow.options, Text)).where(TaskRow.id == task_id)
    async with looking_up(engine) as connection:
        text = (await connection.execute(query)).scalar_one_or_none()
    try:
        return options_from(text).origin
    except Unreadable:
        return None

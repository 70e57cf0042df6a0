"""Tasks in the database: accepted, read, cancelled, ended.

Every change of state is one guarded UPDATE: it says itself when it applies, so a late or doubled
message changes nothing.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, RowMapping, and_, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.errors import KeyReused, NothingToRetry, TaskFinished, TaskNotFound
from captiond.jobs import (
    RETRYABLE,
    FinishedTask,
    ImageView,
    NewImage,
    NewTask,
    Status,
    TaskView,
    finished_status,
)
from captiond.store.deliveries import announce, withhold
from captiond.store.results import from_json, options_to_json, to_json
from captiond.store.sqlite import Engine, reading, writing
from captiond.store.tables import ImageRow, TaskRow

PENDING, PROCESSING = Status.PENDING.value, Status.PROCESSING.value
OPEN = (PENDING, PROCESSING)
INSERT_IMAGE = """
    INSERT INTO images (
        task_id, position, filename, sha256, "offset", size, status, attempt, blame, result
    ) VALUES (
        :task_id, :position, :filename, :sha256, :offset, :size, :status, 0, 0, :result
    )
"""


async def create_task(engine: Engine, task: NewTask) -> str:
    """Accept a task and its images; as `create_tasks`, for one."""
    (created,) = await create_tasks(engine, [task])
    if isinstance(created, KeyReused):
        raise created
    return created


async def create_tasks(engine: Engine, tasks: Sequence[NewTask]) -> list[str | KeyReused]:
    """Accept tasks and their images in one durable transaction; the id of each.

    That is another's id if the task has the key and the digest of one that is there, and KeyReused
    if it has the key with another digest. Images that were refused at upload end here; when all
    of a task were, so does the task.
    """
    ids: list[str | KeyReused] = []
    async with writing(engine) as connection:
        new: list[NewTask] = []
        for task in tasks:
            earlier = await find_by_key(connection, task)
            ids.append(earlier or task.id)
            if earlier is None:
                new.append(task)
                if task.key is not None:  # the next may have the same
                    await insert_tasks(connection, [task])
        await insert_tasks(connection, [task for task in new if task.key is None])
        await insert_images(connection, new)
        for task in new:
            if not task.is_open:
                await announce(connection, task.id, task.created_at)
    return ids


async def insert_tasks(connection: AsyncConnection, tasks: Sequence[NewTask]) -> None:
    if tasks:
        await connection.execute(insert(TaskRow), [task_row(task) for task in tasks])


async def insert_images(connection: AsyncConnection, tasks: Sequence[NewTask]) -> None:
    """By the driver's own call: what SQLAlchemy does for each row takes longer than the row."""
    rows = [
        image_row(task.id, position, image)
        for task in tasks
        for position, image in enumerate(task.images)
    ]
    if rows:
        await connection.exec_driver_sql(INSERT_IMAGE, rows)


async def find_by_key(connection: AsyncConnection, task: NewTask) -> str | KeyReused | None:
    if task.key is None:
        return None
    query = select(TaskRow.id, TaskRow.digest).where(TaskRow.idempotency_key == task.key)
    earlier = (await connection.execute(query)).one_or_none()
    if earlier is not None and earlier.digest != task.digest:
        return KeyReused("this Idempotency-Key came with another request before; take a new one")
    return earlier.id if earlier is not None else None


def task_row(task: NewTask) -> dict[str, object]:
    return {
        "id": task.id,
        "status": (Status.PENDING if task.is_open else Status.FAILED).value,
        "created_at": task.created_at,
        "finished_at": None if task.is_open else task.created_at,
        "spool": task.spool,
        "idempotency_key": task.key,
        "digest": task.digest,
        "options": options_to_json(task.options),
        "callback_url": task.callback_url,
    }


def image_row(task_id: str, position: int, image: NewImage) -> dict[str, object]:
    """The parameters of INSERT_IMAGE."""
    spooled = image.spooled
    return {
        "task_id": task_id,
        "position": position,
        "filename": image.filename,
        "sha256": spooled.sha256 if spooled else None,
        "offset": spooled.offset if spooled else 0,
        "size": spooled.size if spooled else 0,
        "status": (Status.FAILED if image.refused else Status.PENDING).value,
        "result": json.dumps(to_json(image.refused)) if image.refused else None,
    }


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a cancel ended: `images` were in the hands of a model process, `spool` is not needed."""

    images: tuple[int, ...]
    spool: str | None


async def cancel(engine: Engine, task_id: str, *, now: float) -> Cancelled | None:
    """End a task and all its images that have no result; None where there is no such task.

    Whoever has one of them in hand finds the result dropped by its fence. A second cancel changes
    nothing.

    Raises:
        TaskFinished: it has ended by itself.
    """
    async with writing(engine) as connection:
        query = select(TaskRow.status, TaskRow.spool).where(TaskRow.id == task_id)
        task = (await connection.execute(query)).one_or_none()
        if task is None:
            return None
        if task.status not in {*OPEN, Status.CANCELLED}:
            raise TaskFinished("the task has finished already; there is nothing to cancel")
        in_hand = select(ImageRow.id).where(of_task(task_id), ImageRow.status == PROCESSING)
        images = tuple((await connection.execute(in_hand)).scalars())
        await end_images(connection, task_id)
        await end_task(connection, task_id, Status.CANCELLED, now)
    return Cancelled(images, task.spool)


async def end_images(connection: AsyncConnection, task_id: str) -> None:
    cancelled = update(ImageRow).where(of_task(task_id), ImageRow.status.in_(OPEN))
    await connection.execute(cancelled.values(status=Status.CANCELLED.value, owner=None))


async def end_task(
    connection: AsyncConnection, task_id: str, status: Status, now: float, *, keep: bool = False
) -> None:
    """Give an open task its last status; one that has ended keeps its own.

    Its spool file is not needed any more, unless it is to be kept.
    """
    ended = update(TaskRow).where(TaskRow.id == task_id, TaskRow.status.in_(OPEN))
    ended = ended.values(status=status.value, finished_at=now)
    ends = await connection.execute(ended if keep else ended.values(spool=None))
    if ends.rowcount:
        await announce(connection, task_id, now)


async def end_if_done(
    connection: AsyncConnection, task_ids: Iterable[str], now: float
) -> dict[str, FinishedTask]:
    """End those tasks whose last image has ended; by their ids, what that means."""
    ended = {}
    for task_id in task_ids:
        query = select(ImageRow.status).where(of_task(task_id)).distinct()
        statuses = [Status(value) for value in (await connection.execute(query)).scalars()]
        if all(status.terminal for status in statuses):
            keep = await has_retryable(connection, task_id)
            await end_task(connection, task_id, finished_status(statuses), now, keep=keep)
            ended[task_id] = FinishedTask(keep)
    return ended


async def has_retryable(connection: AsyncConnection, task_id: str) -> bool:
    query = select(exists().where(of_task(task_id), retryable()))
    return bool((await connection.execute(query)).scalar_one())


def retryable() -> ColumnElement[bool]:
    code = ImageRow.result["code"].as_string()
    return and_(ImageRow.status == Status.FAILED.value, code.in_(RETRYABLE))


async def retry(engine: Engine, task_id: str) -> int:
    """Let those images of a task wait again that another try may mend; how many they are.

    The task goes on: it ends once more, and whoever is to be told of that is told; not of its first
    end, if that has not been delivered yet.

    Raises:
        TaskNotFound: there is no such task.
        NothingToRetry: it has no such image, or their files are gone.
    """
    async with writing(engine) as connection:
        query = select(TaskRow.spool, TaskRow.status).where(TaskRow.id == task_id)
        task = (await connection.execute(query)).one_or_none()
        if task is None:
            raise TaskNotFound(f"{task_id}: there is no such task")
        if task.spool is None or task.status in OPEN:
            raise NothingToRetry(task_id)
        again = update(ImageRow).where(of_task(task_id), retryable())
        again = again.values(status=PENDING, result=None, blame=0)
        waiting = (await connection.execute(again)).rowcount
        await withhold(connection, task_id)
        reopened = update(TaskRow).where(TaskRow.id == task_id)
        await connection.execute(reopened.values(status=PENDING, finished_at=None))
    return waiting


def of_task(task_id: str) -> ColumnElement[bool]:
    return ImageRow.task_id == task_id


async def read_task(engine: Engine, task_id: str) -> TaskView | None:
    """A task with all its images, as one snapshot; None where there is no such task."""
    images = select(ImageRow.filename, ImageRow.sha256, ImageRow.status, ImageRow.result)
    images = images.where(ImageRow.task_id == task_id).order_by(ImageRow.position)
    async with reading(engine) as connection:
        query = select(TaskRow.__table__).where(TaskRow.id == task_id)
        task = (await connection.execute(query)).mappings().one_or_none()
        if task is None:
            return None
        rows = (await connection.execute(images)).mappings().all()
    return task_view(task, rows)


def task_view(task: RowMapping, images: Sequence[RowMapping]) -> TaskView:
    return TaskView(
        id=task["id"],
        status=Status(task["status"]),
        created_at=task["created_at"],
        started_at=task["started_at"],
        finished_at=task["finished_at"],
        images=tuple(image_view(image) for image in images),
    )


def image_view(row: RowMapping) -> ImageView:
    return ImageView(
        filename=row["filename"],
        sha256=row["sha256"],
        status=Status(row["status"]),
        outcome=from_json(row["result"]) if row["result"] else None,
    )


async def count_open(engine: Engine) -> int:
    """The number of images that wait or are being worked on."""
    query = select(func.count()).where(ImageRow.status.in_(OPEN))
    async with reading(engine) as connection:
        return (await connection.execute(query)).scalar_one()


async def needed_spool_names(engine: Engine) -> set[str]:
    """The spool files that tasks still need: they wait, or may be tried again."""
    query = select(TaskRow.spool).where(TaskRow.spool.is_not(None))
    async with reading(engine) as connection:
        return {name for name in (await connection.execute(query)).scalars() if name is not None}

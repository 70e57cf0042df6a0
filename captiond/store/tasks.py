"""Tasks and images in the database: accept, claim, finish, requeue, read.

Every change of state is one guarded UPDATE: it says itself when it applies, so a late or doubled
message changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.dml import ReturningUpdate

from captiond.jobs import (
    DEFAULT_OPTIONS,
    ImageView,
    NewImage,
    Options,
    Outcome,
    Refused,
    Status,
    TaskView,
    finished_status,
)
from captiond.store.engine import reading
from captiond.store.results import from_json, options_from_json, options_to_json, to_json
from captiond.store.tables import ImageRow, TaskRow

PENDING, PROCESSING = Status.PENDING.value, Status.PROCESSING.value


@dataclass(frozen=True, slots=True)
class Claim:
    """An image taken from the queue; `attempt` fences its result."""

    image_id: int
    attempt: int
    spool: str
    sha256: str
    options: Options = DEFAULT_OPTIONS


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of one attempt at one image."""

    image_id: int
    attempt: int
    outcome: Outcome


async def create_task(
    engine: AsyncEngine,
    task_id: str,
    images: Sequence[NewImage],
    options: Options = DEFAULT_OPTIONS,
    *,
    now: float,
) -> None:
    """Accept a task and its images in one durable transaction.

    Images that were refused at upload end here; when all were, so does the task.
    """
    statuses = [Status.FAILED if image.refused else Status.PENDING for image in images]
    open_images = Status.PENDING in statuses
    task = {
        "id": task_id,
        "status": (Status.PENDING if open_images else finished_status(statuses)).value,
        "created_at": now,
        "finished_at": None if open_images else now,
        "options": options_to_json(options),
    }
    rows = [image_row(task_id, position, image) for position, image in enumerate(images)]
    async with engine.begin() as connection:
        await connection.execute(insert(TaskRow), task)
        await connection.execute(insert(ImageRow), rows)


def image_row(task_id: str, position: int, image: NewImage) -> dict[str, object]:
    return {
        "task_id": task_id,
        "position": position,
        "filename": image.filename,
        "spool": image.spool,
        "sha256": image.sha256,
        "size": image.size,
        "status": (Status.FAILED if image.refused else Status.PENDING).value,
        "result": to_json(image.refused) if image.refused else None,
    }


async def claim(engine: AsyncEngine, limit: int, *, owner: str, now: float) -> list[Claim]:
    """Take up to `limit` images, the longest accepted first; their tasks are PROCESSING with it."""
    waiting = (
        select(ImageRow.id)
        .where(ImageRow.status == PENDING)
        .order_by(ImageRow.id)
        .limit(limit)
        .scalar_subquery()
    )
    take = (
        update(ImageRow)
        .where(ImageRow.id.in_(waiting))
        .values(status=PROCESSING, attempt=ImageRow.attempt + 1, owner=owner)
        .returning(ImageRow.id, ImageRow.attempt, ImageRow.spool, ImageRow.sha256, ImageRow.task_id)
    )
    async with engine.begin() as connection:
        taken = (await connection.execute(take)).all()
        task_ids = {row.task_id for row in taken}
        await start_tasks(connection, task_ids, now)
        options = await read_options(connection, task_ids)
    claims = [
        Claim(row.id, row.attempt, row.spool, row.sha256, options[row.task_id]) for row in taken
    ]
    return sorted(claims, key=lambda claim: claim.image_id)


async def start_tasks(connection: AsyncConnection, task_ids: set[str], now: float) -> None:
    start = (
        update(TaskRow)
        .where(TaskRow.id.in_(task_ids), TaskRow.status == PENDING)
        .values(status=PROCESSING, started_at=func.coalesce(TaskRow.started_at, now))
    )
    await connection.execute(start)


async def read_options(connection: AsyncConnection, task_ids: set[str]) -> dict[str, Options]:
    query = select(TaskRow.id, TaskRow.options).where(TaskRow.id.in_(task_ids))
    rows = (await connection.execute(query)).all()
    return {row.id: options_from_json(row.options) for row in rows}


async def finish(engine: AsyncEngine, results: Sequence[Finished], *, now: float) -> set[int]:
    """Write the results of a batch in one transaction; the image ids whose results were taken.

    A result whose attempt is not the image's present one is dropped: somebody else has the image.
    """
    taken: set[int] = set()
    tasks: set[str] = set()
    async with engine.begin() as connection:
        for result in results:
            task_id = (await connection.execute(finish_one(result))).scalar_one_or_none()
            if task_id is not None:
                taken.add(result.image_id)
                tasks.add(task_id)
        for task_id in tasks:
            await finish_task(connection, task_id, now)
    return taken


def finish_one(result: Finished) -> ReturningUpdate[str]:
    failed = isinstance(result.outcome, Refused)
    return (
        update(ImageRow)
        .where(
            ImageRow.id == result.image_id,
            ImageRow.attempt == result.attempt,
            ImageRow.status == PROCESSING,
        )
        .values(
            status=(Status.FAILED if failed else Status.COMPLETED).value,
            owner=None,
            result=to_json(result.outcome),
        )
        .returning(ImageRow.task_id)
    )


async def finish_task(connection: AsyncConnection, task_id: str, now: float) -> None:
    """End a task whose last image has ended."""
    query = select(ImageRow.status).where(ImageRow.task_id == task_id).distinct()
    statuses = [Status(value) for value in (await connection.execute(query)).scalars()]
    if all(status.terminal for status in statuses):
        await connection.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id)
            .values(status=finished_status(statuses).value, finished_at=now)
        )


async def requeue(engine: AsyncEngine, *, owner: str | None = None) -> int:
    """Put back what `owner` had in hand, or what anybody had; the number of images put back."""
    put_back = update(ImageRow).where(ImageRow.status == PROCESSING)
    if owner is not None:
        put_back = put_back.where(ImageRow.owner == owner)
    async with engine.begin() as connection:
        result = await connection.execute(put_back.values(status=PENDING, owner=None))
    return result.rowcount


async def read_task(engine: AsyncEngine, task_id: str) -> TaskView | None:
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


async def count_open(engine: AsyncEngine) -> int:
    """The number of images that wait or are being worked on."""
    query = select(func.count()).where(ImageRow.status.in_((PENDING, PROCESSING)))
    async with reading(engine) as connection:
        return (await connection.execute(query)).scalar_one()


async def open_spool_names(engine: AsyncEngine) -> set[str]:
    """The spool files that images still need."""
    query = select(ImageRow.spool).where(ImageRow.status.in_((PENDING, PROCESSING)))
    async with reading(engine) as connection:
        return {name for name in (await connection.execute(query)).scalars() if name is not None}

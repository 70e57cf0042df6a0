"""What must be true of a database at any moment, looked for row by row; nothing is changed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import Function, case, func, or_, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.callbacks import DeliveryStatus
from captiond.jobs import Status
from captiond.store.sqlite import Engine, reading
from captiond.store.tables import DeliveryRow, ImageRow, TaskRow
from captiond.store.tasks import OPEN

MOST = 20  # messages of SQLite's own checks; one damaged page can make thousands
ENDED_BY_ITSELF = (Status.COMPLETED.value, Status.FAILED.value)


@dataclass(frozen=True, slots=True)
class Counted:
    """What there was to look at."""

    tasks: int
    open_tasks: int
    images: int


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A task, and how many of its images are in which state."""

    id: str
    status: str
    finished_at: float | None
    spool: str | None
    images: int
    still_open: int
    processing: int
    completed: int
    cancelled: int


async def damage(engine: Engine) -> list[str]:
    """What SQLite finds wrong with the file, and with its references."""
    try:
        async with reading(engine) as connection:
            query = text(f"PRAGMA integrity_check({MOST})")
            found = [str(line) for line in (await connection.execute(query)).scalars()]
            lost = (await connection.execute(text("PRAGMA foreign_key_check"))).fetchmany(MOST)
    except DatabaseError as error:
        return [str(error.orig)]
    references = [f"{row[0]} {row[1]}: its row of {row[2]} is gone" for row in lost]
    return [line for line in found if line != "ok"] + references


async def count(engine: Engine) -> Counted:
    tasks = select(func.count(), func.count(case((TaskRow.status.in_(OPEN), 1))))
    async with reading(engine) as connection:
        total, still_open = (await connection.execute(tasks.select_from(TaskRow))).one()
        images = select(func.count()).select_from(ImageRow)
        return Counted(total, still_open, (await connection.execute(images)).scalar_one())


async def contradictions(engine: Engine) -> list[str]:
    """What captiond never writes: tasks, images and deliveries that are at odds."""
    found = []
    async with reading(engine) as connection:
        async for task in facts(connection):
            problem = contradiction(task)
            if problem is not None:
                found.append(f"task {task.id} is {task.status}, but {problem}")
        found += await images_without_result(connection)
        found += await tasks_untold(connection)
    return found


async def facts(connection: AsyncConnection) -> AsyncIterator[TaskFacts]:
    query = (
        select(
            TaskRow.id,
            TaskRow.status,
            TaskRow.finished_at,
            TaskRow.spool,
            func.count(ImageRow.id).label("images"),
            number_of(Status.PENDING, Status.PROCESSING).label("still_open"),
            number_of(Status.PROCESSING).label("processing"),
            number_of(Status.COMPLETED).label("completed"),
            number_of(Status.CANCELLED).label("cancelled"),
        )
        .select_from(TaskRow)
        .outerjoin(ImageRow, ImageRow.task_id == TaskRow.id)
        .group_by(TaskRow.id)
    )
    async with connection.stream(query) as rows:
        async for row in rows.mappings():
            yield TaskFacts(**row)


def number_of(*statuses: Status) -> Function[int]:
    return func.count(case((ImageRow.status.in_([status.value for status in statuses]), 1)))


def contradiction(task: TaskFacts) -> str | None:
    """What is wrong with a task, by the states of its images."""
    is_open = task.status in OPEN
    wrong = {
        "has no images": task.images == 0,
        f"{task.still_open} of its images have not ended": not is_open and task.still_open > 0,
        "all of its images have ended": is_open and task.still_open == 0 < task.images,
        "one of its images is being processed": task.status == Status.PENDING.value
        and task.processing > 0,
        "none of its images is": task.status == Status.COMPLETED.value and task.completed == 0,
        "one of its images is COMPLETED": task.status == Status.FAILED.value and task.completed > 0,
        "none of its images is, either": task.status == Status.CANCELLED.value
        and task.cancelled == 0,
        "has a time of its end": is_open and task.finished_at is not None,
        "has no time of its end": not is_open and task.finished_at is None,
        "names no spool file": is_open and task.spool is None,
        "was cancelled, and keeps a spool file": task.status == Status.CANCELLED.value
        and task.spool is not None,
    }
    return next((problem for problem, holds in wrong.items() if holds), None)


async def images_without_result(connection: AsyncConnection) -> list[str]:
    query = select(ImageRow.id, ImageRow.task_id, ImageRow.status)
    query = query.where(ImageRow.status.in_(ENDED_BY_ITSELF), ImageRow.result.is_(None))
    return [
        f"image {row.id} of task {row.task_id} is {row.status}, but has no result"
        for row in await connection.execute(query)
    ]


async def tasks_untold(connection: AsyncConnection) -> list[str]:
    """Ended tasks whose end nobody is told, though that was asked for."""
    pending = DeliveryStatus.PENDING.value
    query = select(TaskRow.id).outerjoin(DeliveryRow, DeliveryRow.task_id == TaskRow.id)
    query = query.where(
        TaskRow.callback_url.is_not(None),
        TaskRow.status.not_in(OPEN),
        or_(
            DeliveryRow.id.is_(None),
            (DeliveryRow.status == pending) & DeliveryRow.due_at.is_(None),
        ),
    )
    return [
        f"task {task_id} has ended, but its webhook is not due"
        for task_id in (await connection.execute(query)).scalars()
    ]


@dataclass(frozen=True, slots=True)
class Need:
    """A spool file that an open task needs, and how long it has to be."""

    task_id: str
    size: int


async def needed_files(engine: Engine) -> dict[str, Need]:
    """By their names in the spool, the files of images that have not ended."""
    end = func.max(ImageRow.offset + ImageRow.size)
    query = (
        select(TaskRow.spool, TaskRow.id, end)
        .join(ImageRow, ImageRow.task_id == TaskRow.id)
        .where(ImageRow.status.in_(OPEN), TaskRow.spool.is_not(None))
        .group_by(TaskRow.id)
    )
    async with reading(engine) as connection:
        rows = (await connection.execute(query)).all()
    return {str(spool): Need(task_id, size) for spool, task_id, size in rows}

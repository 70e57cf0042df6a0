"""Checks of the database for `captiond db check`. They read every row and change nothing."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import Function, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.callbacks import DeliveryStatus
from captiond.errors import StoreDamaged
from captiond.jobs import Status
from captiond.store.engine import Engine, reading
from captiond.store.import_consistency import import_contradictions
from captiond.store.tables import DeliveryRow, ImageRow, ImportRow, TaskRow
from captiond.store.transitions import CANCELLED, COMPLETED, FAILED, OPEN, PENDING

MAX_MESSAGES = 20  # of the database's own checks; one damaged page can cause thousands
HAS_RESULT = (COMPLETED, FAILED)
NOT_DUE = or_(
    DeliveryRow.id.is_(None),
    (DeliveryRow.status == DeliveryStatus.PENDING.value) & DeliveryRow.due_at.is_(None),
)


@dataclass(frozen=True, slots=True)
class Counted:
    """The numbers of rows that were checked."""

    tasks: int
    open_tasks: int
    images: int
    imports: int


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A task and the numbers of its images by state.

    `counted` is the number of open images that the task itself has stored.
    """

    id: str
    status: str
    finished_at: float | None
    spool: str | None
    counted: int
    turn: float | None
    images: int
    still_open: int
    waiting: int
    processing: int
    completed: int
    cancelled: int


async def damage(engine: Engine) -> list[str]:
    """Return the damage of the file and its references that the database itself finds.

    Raises:
        StoreError: The file cannot be read now.
    """
    try:
        async with reading(engine) as connection:
            return await engine.database.damage(connection, MAX_MESSAGES)
    except StoreDamaged as error:
        return [str(error)]


async def count(engine: Engine) -> Counted:
    """Return the numbers of tasks, images and imports.

    Raises:
        StoreError: They cannot be counted now.
    """
    tasks = select(func.count(), func.count(case((TaskRow.status.in_(OPEN), 1))))
    async with reading(engine) as connection:
        total, still_open = (await connection.execute(tasks.select_from(TaskRow))).one()
        images, imports = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (ImageRow, ImportRow)
        ]
        return Counted(total, still_open, images, imports)


async def contradictions(engine: Engine) -> list[str]:
    """Return what contradicts itself, which captiond never writes.

    These are tasks, their images, imports, their shards, and deliveries.

    Raises:
        StoreError: The rows cannot be read now.
    """
    problems = []
    async with reading(engine) as connection:
        async for task in facts(connection):
            problem = contradiction(task)
            if problem is not None:
                problems.append(f"task {task.id} is {task.status}, but {problem}")
        problems += await images_without_result(connection)
        problems += await import_contradictions(connection)
        problems += await tasks_without_delivery(connection)
        problems += await imports_without_delivery(connection)
    return problems


async def facts(connection: AsyncConnection) -> AsyncIterator[TaskFacts]:
    query = (
        select(
            TaskRow.id,
            TaskRow.status,
            TaskRow.finished_at,
            TaskRow.spool,
            TaskRow.open_images.label("counted"),
            TaskRow.turn,
            func.count(ImageRow.id).label("images"),
            number_of(Status.PENDING, Status.PROCESSING).label("still_open"),
            number_of(Status.PENDING).label("waiting"),
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
    """Return what the states of its images contradict in a task, or None."""
    is_open = task.status in OPEN
    wrong = {
        "has no images": task.images == 0,
        f"{task.still_open} of its images are not finished": not is_open and task.still_open > 0,
        "all of its images are finished": is_open and task.still_open == 0 < task.images,
        f"it counts {task.counted} open images, and has {task.still_open}": task.counted
        != task.still_open,
        "its images wait without a turn, until the next start": is_open
        and task.waiting > 0
        and task.turn is None,
        "one of its images is being processed": task.status == PENDING and task.processing > 0,
        "none of its images is": task.status == COMPLETED and task.completed == 0,
        "one of its images is COMPLETED": task.status == FAILED and task.completed > 0,
        "none of its images is, either": task.status == CANCELLED and task.cancelled == 0,
        "has a finish time": is_open and task.finished_at is not None,
        "has no finish time": not is_open and task.finished_at is None,
        "names no spool file": is_open and task.spool is None,
        "was cancelled, and keeps a spool file": task.status == CANCELLED
        and task.spool is not None,
    }
    return next((problem for problem, holds in wrong.items() if holds), None)


async def images_without_result(connection: AsyncConnection) -> list[str]:
    query = select(ImageRow.id, ImageRow.task_id, ImageRow.status)
    query = query.where(ImageRow.status.in_(HAS_RESULT), ImageRow.result.is_(None))
    return [
        f"image {row.id} of task {row.task_id} is {row.status}, but has no result"
        for row in await connection.execute(query)
    ]


async def tasks_without_delivery(connection: AsyncConnection) -> list[str]:
    """Return the finished tasks with a callback URL whose receiver will never be called."""
    query = select(TaskRow.id).outerjoin(DeliveryRow, DeliveryRow.task_id == TaskRow.id)
    query = query.where(TaskRow.callback_url.is_not(None), TaskRow.status.not_in(OPEN), NOT_DUE)
    return [
        f"task {task_id} is finished, but its webhook is not due"
        for task_id in (await connection.execute(query)).scalars()
    ]


async def imports_without_delivery(connection: AsyncConnection) -> list[str]:
    """Return the finished imports with a callback URL whose receiver will never be called."""
    query = select(ImportRow.id).outerjoin(DeliveryRow, DeliveryRow.import_id == ImportRow.id)
    query = query.where(ImportRow.callback_url.is_not(None), ImportRow.status.not_in(OPEN), NOT_DUE)
    return [
        f"import {import_id} is finished, but its webhook is not due"
        for import_id in (await connection.execute(query)).scalars()
    ]


@dataclass(frozen=True, slots=True)
class Need:
    """The spool file of an open task must have `size` bytes at least."""

    task_id: str
    size: int


async def needed_files(engine: Engine) -> dict[str, Need]:
    """Return what open images need, by the names of their files in the spool.

    Raises:
        StoreError: The rows cannot be read now.
    """
    size = func.max(ImageRow.offset + ImageRow.size)
    query = (
        select(TaskRow.spool, TaskRow.id, size)
        .join(ImageRow, ImageRow.task_id == TaskRow.id)
        .where(ImageRow.status.in_(OPEN), TaskRow.spool.is_not(None))
        .group_by(TaskRow.id)
    )
    async with reading(engine) as connection:
        rows = (await connection.execute(query)).all()
    return {str(spool): Need(task_id, size) for spool, task_id, size in rows}

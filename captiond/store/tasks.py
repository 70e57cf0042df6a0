"""Tasks in the database: they are accepted, read, cancelled and retried.

Each change of state is an UPDATE that carries its own guard, as `transitions` describes, so a late
or repeated message changes nothing. Transactions lock tasks before they change images, as `locks`
describes, so that two of them rarely wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Insert,
    Text,
    bindparam,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from captiond.errors import (
    KeyReused,
    NothingToRetry,
    StoreError,
    StoreUncertain,
    TaskFinished,
    TaskNotFound,
)
from captiond.jobs import NewImage, NewTask, Status, TaskView
from captiond.store.backend import Statement, execute_many
from captiond.store.columns import JsonText
from captiond.store.deliveries import announce, withhold
from captiond.store.engine import Engine, looking_up, writing
from captiond.store.finishing import retryable
from captiond.store.locks import lock_tasks
from captiond.store.patience import repeated
from captiond.store.replays import find_earlier, own_key
from captiond.store.results import (
    options_text,
    result_text,
    storable,
)
from captiond.store.snapshots import read_snapshot
from captiond.store.tables import ImageRow, TaskRow
from captiond.store.transitions import (
    CANCELLED,
    FAILED,
    PENDING,
    image_may_become,
    image_moves,
    task_may_become,
)
from captiond.store.turns import charge, enter

# ---------------------------------------------------------------- accepting


def insert_of(table: type[TaskRow | ImageRow], *columns: str, **constants: str) -> Insert:
    """Return an INSERT whose parameters have the names of the columns."""
    types = table.__table__.c
    values: dict[str, ColumnElement[Any]] = {
        **{name: bindparam(name, type_=types[name].type) for name in columns},
        **{name: literal_column(value) for name, value in constants.items()},
    }
    return insert(table).values(values)


def as_text(name: str) -> ColumnElement[Any]:
    """Return the parameter of a column of tasks, in which a JSON document is text already."""
    kind = TaskRow.__table__.c[name].type
    return bindparam(name, type_=Text() if isinstance(kind, JsonText) else kind)


TASK_COLUMNS = (
    "id",
    "status",
    "created_at",
    "finished_at",
    "spool",
    "idempotency_key",
    "digest",
    "options",
    "callback_url",
    "open_images",
    "client",
    "weight",
    "cost",
    "size",
)
INSERT_TASK = insert_of(TaskRow, *TASK_COLUMNS)
ADD_TASK = Statement(
    lambda sql: (
        sql.insert_or_keep(TaskRow)
        .values({name: as_text(name) for name in TASK_COLUMNS})
        .returning(TaskRow.id)
    )
)
INSERT_IMAGE = insert_of(
    ImageRow,
    "task_id",
    "position",
    "filename",
    "sha256",
    "offset",
    "size",
    "status",
    "result",
    attempt="0",
    blame="0",
)


async def create_task(engine: Engine, task: NewTask) -> str:
    """Accept one task, as `create_tasks` does. Return its id.

    Raises:
        KeyReused: An earlier, different request has the same key.
        StoreError: It was not accepted.
    """
    (created,) = await create_tasks(engine, [task])
    if isinstance(created, KeyReused):
        raise created
    return created


async def create_tasks(engine: Engine, tasks: Sequence[NewTask]) -> list[str | KeyReused]:
    """Accept tasks and their images in one durable transaction. Return the id of each.

    If an earlier task has the same key and digest, its id is returned instead. If it has the same
    key and another digest, KeyReused stands in its place. Images that were refused at upload are
    finished at once, and so is a task that has no other images.

    Raises:
        StoreError: No task was accepted. Only if it is StoreUncertain, they may have been.
    """
    try:
        return await insert_all(engine, tasks)
    # guard: accepted-once
    except StoreUncertain as error:
        try:
            return await insert_all(engine, tasks, again=True)
        except StoreError:
            raise error from None


@repeated
async def insert_all(
    engine: Engine, tasks: Sequence[NewTask], *, again: bool = False
) -> list[str | KeyReused]:
    """Insert tasks that are not there yet, as `create_tasks` describes.

    `again` says that the first attempt may have succeeded. Each task is then looked for by its id.
    """
    ids: list[str | KeyReused] = []
    async with writing(engine) as connection:
        new: list[NewTask] = []
        for task in tasks:
            earlier = await find_earlier(connection, task)
            # The next task of this call may have the same key, or that of another process.
            if earlier is None and (again or task.key is not None):
                earlier = await insert_unless_there(connection, task)
            ids.append(earlier or task.id)
            if earlier is None:
                new.append(task)
        if not again:
            await insert_tasks(connection, [task for task in new if task.key is None])
        await insert_images(connection, new)
        await enter(connection, [task.id for task in new if task.is_open], new=True)
        for task in new:
            if not task.is_open:
                await announce(connection, task.id, task.callback_url, task.created_at)
    return ids


async def insert_unless_there(connection: AsyncConnection, task: NewTask) -> str | KeyReused | None:
    """Insert a task. If it is there already, or another one with its key, return what stands."""
    inserted = await connection.execute(ADD_TASK.on(connection), task_row(task))
    if inserted.first() is not None:
        return None
    return await find_earlier(connection, task) or task.id


async def insert_tasks(connection: AsyncConnection, tasks: Sequence[NewTask]) -> None:
    await execute_many(connection, INSERT_TASK, [task_row(task) for task in tasks])


async def insert_images(connection: AsyncConnection, tasks: Sequence[NewTask]) -> None:
    rows = [
        image_row(task.id, position, image)
        for task in tasks
        for position, image in enumerate(task.images)
    ]
    await execute_many(connection, INSERT_IMAGE, rows)


def task_row(task: NewTask) -> dict[str, object]:
    """Return the parameters of INSERT_TASK."""
    return {
        "id": task.id,
        "status": PENDING if task.is_open else FAILED,
        "created_at": task.created_at,
        "finished_at": None if task.is_open else task.created_at,
        "spool": task.spool,
        "idempotency_key": own_key(task.client, task.key) if task.key is not None else None,
        "digest": task.digest,
        "options": options_text(task.options),
        "callback_url": task.callback_url,
        "open_images": sum(1 for image in task.images if image.refused is None),
        "client": task.client.name,
        "weight": task.client.weight,
        "cost": task.cost,
        "size": sum(image.spooled.size for image in task.images if image.spooled),
    }


def image_row(task_id: str, position: int, image: NewImage) -> dict[str, object]:
    """Return the parameters of INSERT_IMAGE."""
    spooled = image.spooled
    return {
        "task_id": task_id,
        "position": position,
        "filename": storable(image.filename),
        "sha256": spooled.sha256 if spooled else None,
        "offset": spooled.offset if spooled else 0,
        "size": spooled.size if spooled else 0,
        "status": FAILED if image.refused else PENDING,
        "result": result_text(image.refused) if image.refused else None,
    }


# ---------------------------------------------------------------- cancelling and retrying


@dataclass(frozen=True, slots=True)
class CancelledTask:
    """What a cancel stopped.

    `images` are the ids of images that a process had claimed. `spool` names the file that is not
    needed any more.
    """

    images: tuple[int, ...]
    spool: str | None


@repeated
async def cancel(engine: Engine, task_id: str, *, now: float) -> CancelledTask | None:
    """Cancel a task and all its images that have no result. Return None if there is no such task.

    The results of images that are being captioned will be dropped. A second cancel changes nothing.

    Raises:
        TaskFinished: The task is finished already.
        StoreError: Nothing was cancelled.
    """
    async with writing(engine) as connection:
        query = select(TaskRow.spool).where(TaskRow.id == task_id)
        query = query.with_for_update(key_share=True)
        task = (await connection.execute(query)).one_or_none()
        if task is None:
            return None
        claimed, waiting = await cancel_images(connection, task_id)
        if await end_as_cancelled(connection, task_id, len(claimed) + waiting, now):
            return CancelledTask(claimed, task.spool)
        if await status_of(connection, task_id) != CANCELLED:
            raise TaskFinished("the task has finished already; there is nothing to cancel")
    return CancelledTask((), None)


async def cancel_images(connection: AsyncConnection, task_id: str) -> tuple[tuple[int, ...], int]:
    """Return the ids of the claimed images that were cancelled, and the number of waiting ones."""
    cancelled = update(ImageRow).values(status=CANCELLED, owner=None)
    claimed = cancelled.where(
        of_task(task_id), image_moves(Status.PROCESSING, Status.CANCELLED)
    ).returning(ImageRow.id)
    waiting = cancelled.where(of_task(task_id), image_may_become(Status.CANCELLED))
    ids = tuple((await connection.execute(claimed)).scalars())
    return ids, (await connection.execute(waiting)).rowcount


async def end_as_cancelled(
    connection: AsyncConnection, task_id: str, images: int, now: float
) -> bool:
    """Cancel a task and its file, `images` of which were open. Return whether it was open."""
    cancelled = (
        update(TaskRow)
        .where(TaskRow.id == task_id, task_may_become(Status.CANCELLED))
        .values(
            status=CANCELLED,
            finished_at=now,
            spool=None,
            turn=None,
            open_images=TaskRow.open_images - images,
            revision=TaskRow.revision + 1,
        )
        .returning(TaskRow.callback_url, TaskRow.client)
    )
    task = (await connection.execute(cancelled)).one_or_none()
    if task is not None:
        await charge(connection, {task.client: 0.0})
        await announce(connection, task_id, task.callback_url, now)
    return task is not None


async def status_of(connection: AsyncConnection, task_id: str) -> str | None:
    query = select(TaskRow.status).where(TaskRow.id == task_id)
    return (await connection.execute(query)).scalar_one_or_none()


@repeated
async def retry(engine: Engine, task_id: str) -> int:
    """Let the failed images of a task wait again that may succeed now. Return their number.

    The task continues. When it is finished again, its receiver is notified again. If the first
    notification is not delivered yet, it is dropped.

    Raises:
        TaskNotFound: There is no such task.
        NothingToRetry: It has no such image, its file is gone, or it is not finished.
        StoreError: Nothing was changed.
    """
    again = update(ImageRow).where(of_task(task_id), retryable())
    again = again.values(status=PENDING, result=None, blame=0)
    async with writing(engine) as connection:
        await lock_tasks(connection, [task_id])
        waiting = (await connection.execute(again)).rowcount
        if waiting == 0 or not await reopen(connection, task_id, waiting):
            if await status_of(connection, task_id) is None:
                raise TaskNotFound(f"{task_id}: there is no such task")
            raise NothingToRetry(task_id)
        await enter(connection, [task_id], new=False)
        await withhold(connection, task_id)
    return waiting


async def reopen(connection: AsyncConnection, task_id: str, images: int) -> bool:
    """Let a finished task wait for `images` images. Return False if it is open or has no file."""
    reopened = (
        update(TaskRow)
        .where(TaskRow.id == task_id, TaskRow.spool.is_not(None), task_may_become(Status.PENDING))
        .values(
            status=PENDING,
            finished_at=None,
            open_images=TaskRow.open_images + images,
            revision=TaskRow.revision + 1,
        )
    )
    return (await connection.execute(reopened)).rowcount == 1


def of_task(task_id: str) -> ColumnElement[bool]:
    return ImageRow.task_id == task_id


# ---------------------------------------------------------------- reading


async def owner_of(engine: Engine, task_id: str) -> str | None:
    """Return the name of the client that sent a task, or None if there is no such task.

    Raises:
        StoreError: It cannot be read now.
    """
    query = select(TaskRow.client).where(TaskRow.id == task_id)
    async with looking_up(engine) as connection:
        return (await connection.execute(query)).scalar_one_or_none()


async def read_task(engine: Engine, task_id: str) -> TaskView | None:
    """Return a task with all its images, as one snapshot, or None if there is no such task.

    Raises:
        StoreError: It cannot be read now.
    """
    snapshot = await read_snapshot(engine, task_id)
    return None if snapshot is None else snapshot.view()


async def needed_spool_names(engine: Engine) -> set[str]:
    """Return the names of the spool files that open or retryable images need.

    Raises:
        StoreError: They cannot be read now.
    """
    query = select(TaskRow.spool).where(TaskRow.spool.is_not(None))
    async with looking_up(engine) as connection:
        return {name for name in (await connection.execute(query)).scalars() if name is not None}

"""Retention: old finished tasks and the oldest captions of the cache are deleted.

Each function deletes a few rows in one short transaction. The caller pauses between two calls, so
that a client's transaction waits for one of these at most.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Row, Select, delete, exists, func, select, update

from captiond.callbacks import DeliveryStatus
from captiond.store.engine import Engine, looking_up, reading, writing
from captiond.store.expressions import unindexed
from captiond.store.tables import (
    CaptionRow,
    DeliveryRow,
    ImageRow,
    ImportRow,
    ShardRow,
    TaskRow,
)
from captiond.store.transitions import OPEN, TASK_STATE

MOST_TASKS = 200


async def delete_finished(engine: Engine, *, before: float, images: int) -> int:
    """Delete some tasks that finished before `before`, the first finished first.

    At least one task is deleted, and no more once they have `images` images together. Their images
    and deliveries are deleted too. A task whose webhook is not delivered yet is kept. Return the
    number of deleted tasks.

    Raises:
        StoreError: Nothing was deleted.
    """
    candidates = (
        select(TaskRow.id, func.count(ImageRow.id).label("images"))
        .outerjoin(ImageRow, ImageRow.task_id == TaskRow.id)
        .where(TaskRow.id.in_(oldest_finished(before)))
        .group_by(TaskRow.id)
        .order_by(TaskRow.finished_at)
    )
    async with reading(engine) as connection:
        rows = (await connection.execute(candidates)).all()
    chosen = first_tasks(rows, images)
    if not chosen:
        return 0
    async with writing(engine) as connection:
        gone = delete(TaskRow).where(TaskRow.id.in_(chosen), is_deletable(before))
        return (await connection.execute(gone)).rowcount


def oldest_finished(before: float) -> Select[str]:
    query = select(TaskRow.id).where(is_deletable(before))
    return query.order_by(TaskRow.finished_at).limit(MOST_TASKS)


def is_deletable(before: float) -> ColumnElement[bool]:
    owed = is_owed(DeliveryRow.task_id == TaskRow.id)
    return (TaskRow.finished_at < before) & TASK_STATE.not_in(OPEN) & ~owed


def is_owed(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that one of these deliveries is still to be made."""
    return exists().where(which, unindexed(DeliveryRow.status) == DeliveryStatus.PENDING.value)


def first_tasks(rows: Sequence[Row[str, int]], images: int) -> list[str]:
    """Return the ids of the first tasks that have `images` images together."""
    chosen: list[str] = []
    for task_id, count in rows:
        if images <= 0:
            break
        chosen.append(task_id)
        images -= count
    return chosen


async def delete_finished_imports(engine: Engine, *, before: float, shards: int) -> int:
    """Delete some shards of imports that finished before `before`, then the imports themselves.

    Their deliveries are deleted too. An import whose webhook is not delivered yet is kept. Return
    the number of deleted rows. Files of results stay: they belong to whoever imported them.

    Raises:
        StoreError: Nothing was deleted.
    """
    owed = is_owed(DeliveryRow.import_id == ImportRow.id)
    old = select(ImportRow.id).where(
        ImportRow.finished_at < before, ImportRow.status.not_in(OPEN), ~owed
    )
    some = select(ShardRow.id).where(ShardRow.import_id.in_(old)).limit(shards)
    empty = ~exists().where(ShardRow.import_id == ImportRow.id)
    async with writing(engine) as connection:
        gone = await connection.execute(delete(ShardRow).where(ShardRow.id.in_(some)))
        imports = await connection.execute(delete(ImportRow).where(ImportRow.id.in_(old), empty))
        return gone.rowcount + imports.rowcount


async def release_files(engine: Engine, *, before: float) -> int:
    """Release the files of some tasks that finished before `before`. Return their number.

    The failed images of these tasks cannot be retried any more.

    Raises:
        StoreError: Nothing was released.
    """
    old = select(TaskRow.id).where(
        TaskRow.finished_at < before, TaskRow.spool.is_not(None), TASK_STATE.not_in(OPEN)
    )
    async with writing(engine) as connection:
        some = update(TaskRow).where(TaskRow.id.in_(old.limit(MOST_TASKS)))
        return (await connection.execute(some.values(spool=None))).rowcount


async def files_kept_for_retry(engine: Engine) -> dict[str, str]:
    """Return the spool files of finished tasks by the tasks' ids, the first finished first."""
    query = select(TaskRow.id, TaskRow.spool).where(
        TaskRow.finished_at.is_not(None), TaskRow.spool.is_not(None), TASK_STATE.not_in(OPEN)
    )
    async with looking_up(engine) as connection:
        rows = await connection.execute(query.order_by(TaskRow.finished_at))
        return {row.id: str(row.spool) for row in rows}


async def release_files_of(engine: Engine, task_ids: Sequence[str]) -> set[str]:
    """Release the spool files of these tasks, so that their images cannot be retried any more.

    Return the ids of the tasks whose files were released. A task that is retried meanwhile keeps
    its file.
    """
    finished = TaskRow.id.in_(task_ids) & TASK_STATE.not_in(OPEN)
    released = update(TaskRow).where(finished).values(spool=None).returning(TaskRow.id)
    async with writing(engine) as connection:
        return set((await connection.execute(released)).scalars())


async def captions_over(engine: Engine, rows: int) -> int:
    """Return by how many captions the cache exceeds `rows`.

    Raises:
        StoreError: They cannot be counted now.
    """
    async with looking_up(engine) as connection:
        count = select(func.count()).select_from(CaptionRow)
        return max(0, (await connection.execute(count)).scalar_one() - rows)


async def delete_oldest_captions(engine: Engine, number: int) -> int:
    """Delete `number` captions, the first stored first. Return the number of deleted ones.

    The last use of a caption does not count: to store it would turn each read into a write.

    Raises:
        StoreError: Nothing was deleted.
    """
    oldest = select(CaptionRow.key).order_by(CaptionRow.created_at).limit(number)
    async with writing(engine) as connection:
        gone = delete(CaptionRow).where(CaptionRow.key.in_(oldest))
        return (await connection.execute(gone)).rowcount

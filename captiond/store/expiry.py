"""What need not be kept for ever: finished tasks of long ago, and the oldest captions of the cache.

Each function deletes a little, in one short transaction; whoever calls it rests in between, so that
no client's transaction waits for more than one of these.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Row, Select, delete, exists, func, select, update

from captiond.callbacks import DeliveryStatus
from captiond.store.sqlite import Engine, reading, writing
from captiond.store.tables import CaptionRow, DeliveryRow, ImageRow, TaskRow
from captiond.store.tasks import OPEN

MOST_TASKS = 200


async def delete_finished(engine: Engine, *, before: float, images: int) -> int:
    """Delete some of the tasks that finished before then, the first finished first; their number.

    They are so many that their images are about `images`, and one at least. Images and deliveries
    go with their task. A task whose webhook is still to be delivered is kept.
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
    chosen = within(rows, images)
    if not chosen:
        return 0
    async with writing(engine) as connection:
        gone = delete(TaskRow).where(TaskRow.id.in_(chosen), may_go(before))
        return (await connection.execute(gone)).rowcount


def oldest_finished(before: float) -> Select[str]:
    query = select(TaskRow.id).where(may_go(before))
    return query.order_by(TaskRow.finished_at).limit(MOST_TASKS)


def may_go(before: float) -> ColumnElement[bool]:
    owed = exists().where(
        DeliveryRow.task_id == TaskRow.id, DeliveryRow.status == DeliveryStatus.PENDING.value
    )
    return (TaskRow.finished_at < before) & TaskRow.status.not_in(OPEN) & ~owed


def within(rows: Sequence[Row[str, int]], images: int) -> list[str]:
    """The first of these tasks, until they have so many images between them."""
    chosen: list[str] = []
    for task_id, count in rows:
        if images <= 0:
            break
        chosen.append(task_id)
        images -= count
    return chosen


async def release_files(engine: Engine, *, before: float) -> int:
    """Let go of the files of some tasks that finished before then: they cannot be tried again any
    more. How many they were.
    """
    old = select(TaskRow.id).where(
        TaskRow.finished_at < before, TaskRow.spool.is_not(None), TaskRow.status.not_in(OPEN)
    )
    async with writing(engine) as connection:
        some = update(TaskRow).where(TaskRow.id.in_(old.limit(MOST_TASKS)))
        return (await connection.execute(some.values(spool=None))).rowcount


async def files_kept_for_retry(engine: Engine) -> dict[str, str]:
    """Return the spool files of finished tasks by the tasks' ids, the first finished first."""
    query = select(TaskRow.id, TaskRow.spool).where(
        TaskRow.finished_at.is_not(None), TaskRow.spool.is_not(None), TaskRow.status.not_in(OPEN)
    )
    async with reading(engine) as connection:
        rows = await connection.execute(query.order_by(TaskRow.finished_at))
        return {row.id: str(row.spool) for row in rows}


async def release_files_of(engine: Engine, task_ids: Sequence[str]) -> set[str]:
    """Release the spool files of these tasks, so that their images cannot be retried any more.

    Return the ids of the tasks whose files were released. A task that is retried meanwhile keeps
    its file.
    """
    finished = TaskRow.id.in_(task_ids) & TaskRow.status.not_in(OPEN)
    released = update(TaskRow).where(finished).values(spool=None).returning(TaskRow.id)
    async with writing(engine) as connection:
        return set((await connection.execute(released)).scalars())


async def captions_over(engine: Engine, rows: int) -> int:
    """How many captions the cache holds more than `rows`."""
    async with reading(engine) as connection:
        count = select(func.count()).select_from(CaptionRow)
        return max(0, (await connection.execute(count)).scalar_one() - rows)


async def delete_oldest_captions(engine: Engine, number: int) -> int:
    """Delete so many captions, the first remembered first; their number.

    By age and not by use: to note each use would make a durable write of what is a read.
    """
    oldest = select(CaptionRow.key).order_by(CaptionRow.created_at).limit(number)
    async with writing(engine) as connection:
        gone = delete(CaptionRow).where(CaptionRow.key.in_(oldest))
        return (await connection.execute(gone)).rowcount

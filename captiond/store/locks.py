"""Locks of rows, for databases in which several transactions write at the same time.

Every transaction locks the tasks whose images it changes before it changes them, and clients after
that, both in the order of their keys. So the counters and turns of a task, which follow from its
images, are computed while nobody else changes them. On SQLite a transaction that writes has the
whole file to itself, and nothing is done here.
"""

from collections.abc import Collection

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Select, Text, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.store.backend import Statement
from captiond.store.tables import ImageRow, TaskRow, TurnRow


def locking(query: Select[str]) -> Select[str]:
    """Return a query that locks its rows against changes, and lets new rows refer to them."""
    return query.with_for_update(key_share=True)


NAMES = bindparam("names", type_=ARRAY(Text))
LOCK_TASKS = Statement(
    lambda sql: sql.choose(
        sqlite=None,
        postgresql=locking(
            select(TaskRow.id).where(TaskRow.id == func.any(NAMES)).order_by(TaskRow.id)
        ),
    )
)
LOCK_CLIENTS = Statement(
    lambda sql: sql.choose(
        sqlite=None,
        postgresql=locking(
            select(TurnRow.client).where(TurnRow.client == func.any(NAMES)).order_by(TurnRow.client)
        ),
    )
)
OF_IMAGES = select(ImageRow.task_id).where(
    ImageRow.id == func.any(bindparam("image_ids", type_=ARRAY(BigInteger)))
)
LOCK_TASKS_OF_IMAGES = Statement(
    lambda sql: sql.choose(
        sqlite=None,
        postgresql=locking(
            select(TaskRow.id)
            .where(TaskRow.id == func.any(func.array(OF_IMAGES.scalar_subquery())))
            .order_by(TaskRow.id)
        ),
    )
)
LOCKS_ROWS = Statement(lambda sql: sql.choose(sqlite=False, postgresql=True))


async def lock_tasks(connection: AsyncConnection, task_ids: Collection[str]) -> None:
    """Lock tasks until the transaction ends."""
    if task_ids and (lock := LOCK_TASKS.on(connection)) is not None:
        await connection.execute(lock, {"names": [*task_ids]})


async def lock_tasks_of(connection: AsyncConnection, images: ColumnElement[bool]) -> None:
    """Lock the tasks that have such images."""
    if LOCKS_ROWS.on(connection):
        theirs = select(TaskRow.id).where(TaskRow.id.in_(select(ImageRow.task_id).where(images)))
        await connection.execute(locking(theirs.order_by(TaskRow.id)))


async def lock_tasks_of_images(connection: AsyncConnection, image_ids: Collection[int]) -> None:
    """Lock the tasks of these images. Their ids are one parameter, so the server plans it once."""
    if (lock := LOCK_TASKS_OF_IMAGES.on(connection)) is not None:
        await connection.execute(lock, {"image_ids": [*image_ids]})


async def lock_clients(connection: AsyncConnection, clients: Collection[str]) -> None:
    """Lock the turns of clients until the transaction ends."""
    if clients and (lock := LOCK_CLIENTS.on(connection)) is not None:
        await connection.execute(lock, {"names": [*clients]})

"""What the database knows of a waiting task's place in the queue.

At most MOST rows of each kind are read, each by an index, however many tasks wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, cast, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.queues.shares import QueuedTask
from captiond.store.engine import Engine, looking_up, reading
from captiond.store.tables import TaskRow, TurnRow

MOST = 1000


@dataclass(frozen=True, slots=True)
class QueueView:
    """A waiting task, and who has a turn beside it.

    `tasks_before` are tasks of the same client whose turn comes first. `siblings` is the number of
    the client's waiting tasks. `clients` are the waiting clients, by their turns.
    """

    task: QueuedTask
    tasks_before: Sequence[QueuedTask]
    siblings: int
    client_turn: float
    client_weight: float
    clients: Sequence[tuple[float, float]]


async def queue_view(engine: Engine, task_id: str) -> QueueView | None:
    """Return the place of a task, or None if no image of it waits.

    Raises:
        StoreError: The database cannot be read now.
    """
    fields = TaskRow.turn, TaskRow.cost, TaskRow.open_images
    query = select(TaskRow.client, *fields).where(TaskRow.id == task_id, TaskRow.turn.is_not(None))
    async with reading(engine) as connection:
        row = (await connection.execute(query)).one_or_none()
        if row is None or row.turn is None:
            return None
        waiting = select(*fields).where(TaskRow.client == row.client, TaskRow.turn.is_not(None))
        before = waiting.where(TaskRow.turn < row.turn).order_by(TaskRow.turn).limit(MOST)
        earlier = (await connection.execute(before)).all()
        some = waiting.limit(MOST).subquery()
        siblings = (await connection.execute(select(func.count()).select_from(some))).scalar_one()
        turn, weight = await client_turn(connection, row.client)
        clients = select(TurnRow.turn, TurnRow.weight).where(TurnRow.waits == true())
        others = await connection.execute(clients.order_by(TurnRow.turn).limit(MOST))
        return QueueView(
            QueuedTask(row.turn, row.cost, row.open_images),
            [QueuedTask(each.turn or 0.0, each.cost, each.open_images) for each in earlier],
            siblings,
            turn,
            weight,
            [(each.turn, each.weight) for each in others],
        )


async def client_turn(connection: AsyncConnection, client: str) -> tuple[float, float]:
    """Return the turn and the weight of a waiting client."""
    query = select(TurnRow.turn, TurnRow.weight).where(TurnRow.client == client)
    row = (await connection.execute(query)).one_or_none()
    return (0.0, 1.0) if row is None else (row.turn, row.weight)


@dataclass(frozen=True, slots=True)
class Backlog:
    """The images that wait or are being captioned, and the bytes of all images of their tasks."""

    images: int = 0
    size: int = 0


async def backlog(engine: Engine, client: str | None = None) -> Backlog:
    """Return the backlog of all clients or of one. The rows of unfinished tasks are read for it.

    Raises:
        StoreError: They cannot be read now.
    """
    sums = (func.sum(TaskRow.open_images), func.sum(TaskRow.size))
    images, size = (cast(func.coalesce(each, 0), BigInteger) for each in sums)
    query = select(images, size)
    query = query.where(TaskRow.finished_at.is_(None))
    if client is not None:
        query = query.where(TaskRow.client == client)
    async with looking_up(engine) as connection:
        row = (await connection.execute(query)).one()
    return Backlog(row[0], row[1])

"""Webhook deliveries. The transaction that finishes a task or an import makes its delivery.

So none is lost. An import is finished once, and then has one delivery.

A delivery is PENDING until its receiver has accepted it, its last attempt failed, or it is too old.
Only supervisors call receivers. If one dies during a call, the delivery is still PENDING and is
tried again. If several nodes use the database, each reserves a delivery before it calls.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, RowMapping, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Update

from captiond.callbacks import DeliveryStatus, parse_url
from captiond.store.engine import Engine, looking_up, reading, writing
from captiond.store.tables import DeliveryRow, TaskRow

PENDING = DeliveryStatus.PENDING.value
FAILED = DeliveryStatus.FAILED.value
MAX_ERROR = 300
RESERVE_SECONDS = 60.0
SET_BACK = 60.0  # seconds; the clocks of a machine that is set by the network differ by less
COLUMNS = (
    DeliveryRow.id,
    DeliveryRow.task_id,
    DeliveryRow.import_id,
    DeliveryRow.url,
    DeliveryRow.host,
    DeliveryRow.status,
    DeliveryRow.attempts,
    DeliveryRow.created_at,
    DeliveryRow.due_at,
    DeliveryRow.tried_at,
    DeliveryRow.response,
    DeliveryRow.error,
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery, for a task or for an import; the other one's id is None.

    Times are Unix seconds; `due_at` is None once it is DELIVERED or FAILED.

    `attempts` counts the finished attempts. `response` is the HTTP status of the last one, or
    None if there was no response. `error` says why it failed.
    """

    id: str
    task_id: str | None
    import_id: str | None
    url: str
    host: str
    status: DeliveryStatus
    attempts: int
    created_at: float
    due_at: float | None
    tried_at: float | None
    response: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one attempt. `attempt` counts from 1; only the present attempt is recorded."""

    delivery_id: str
    attempt: int
    at: float
    status: DeliveryStatus
    due_at: float | None
    response: int | None
    error: str | None


async def announce(connection: AsyncConnection, task_id: str, url: str | None, now: float) -> None:
    """Make the delivery of a task that this transaction finishes, if it has a callback URL."""
    if url is not None:
        await connection.execute(insert(DeliveryRow), {"task_id": task_id, **new_row(url, now)})


async def announce_import(
    connection: AsyncConnection, import_id: str, url: str | None, now: float
) -> None:
    """Make the delivery of an import that this transaction finishes, if it has a callback URL."""
    if url is not None:
        await connection.execute(insert(DeliveryRow), {"import_id": import_id, **new_row(url, now)})


def new_row(url: str, now: float) -> dict[str, object]:
    """Return a delivery that is due now."""
    return {
        "id": f"msg_{secrets.token_hex(16)}",
        "url": url,
        "host": parse_url(url).authority,
        "status": PENDING,
        "attempts": 0,
        "created_at": now,
        "due_at": now,
    }


async def withhold(connection: AsyncConnection, task_id: str) -> None:
    """Drop the pending deliveries of a task that is retried."""
    owed = (DeliveryRow.task_id == task_id) & (DeliveryRow.status == PENDING)
    await connection.execute(delete(DeliveryRow).where(owed))


async def due(
    engine: Engine,
    *,
    now: float,
    per_host: int,
    trying: Mapping[str, str],
    reserve_seconds: float = RESERVE_SECONDS,
) -> list[Delivery]:
    """Return the deliveries to try now: for each host those that are due the longest.

    `trying` holds the host of each delivery that is being tried, by its id. A host gets no more
    than `per_host` calls at a time. There is one query for each host, so that the backlog of one
    host is not read in order to reach another. No other node tries these deliveries within
    `reserve_seconds`.

    Raises:
        StoreError: They cannot be read now.
    """
    to_try: list[Delivery] = []
    async with reading(engine) as connection:
        host = ""
        while (host := await host_after(connection, host) or "") != "":
            free = per_host - sum(1 for busy in trying.values() if busy == host)
            if free > 0:
                to_try += await due_at_host(connection, host, now, free, trying.keys())
    if to_try and engine.database.shared:
        mine = await reserve(engine, [each.id for each in to_try], now, reserve_seconds)
        return [each for each in to_try if each.id in mine]
    return to_try


async def reserve(engine: Engine, ids: Sequence[str], now: float, seconds: float) -> set[str]:
    """Return which of these deliveries no other node has taken, and let them be due later."""
    # guard: deliveries-of-one-node
    mine = update(DeliveryRow).where(
        DeliveryRow.id.in_(ids), DeliveryRow.status == PENDING, DeliveryRow.due_at <= now
    )
    async with writing(engine) as connection:
        reserved = mine.values(due_at=now + seconds).returning(DeliveryRow.id)
        return set((await connection.execute(reserved)).scalars())


async def host_after(connection: AsyncConnection, host: str) -> str | None:
    """Return the next host with pending deliveries, in alphabetical order."""
    query = select(func.min(DeliveryRow.host))
    query = query.where(DeliveryRow.status == PENDING, DeliveryRow.host > host)
    return (await connection.execute(query)).scalar_one()


async def due_at_host(
    connection: AsyncConnection, host: str, now: float, limit: int, trying: Collection[str]
) -> list[Delivery]:
    query = (
        select(*COLUMNS)
        .where(DeliveryRow.status == PENDING, DeliveryRow.host == host, DeliveryRow.due_at <= now)
        .where(DeliveryRow.id.not_in(trying), is_finished())
        .order_by(DeliveryRow.due_at)
        .limit(limit)
    )
    return deliveries((await connection.execute(query)).mappings())


def is_finished() -> ColumnElement[bool]:
    """Return the condition that the delivery's task or import is finished.

    A task that was reopened by a retry may have deliveries from its first finish. An import is
    never reopened.
    """
    task = exists().where(TaskRow.id == DeliveryRow.task_id, TaskRow.finished_at.is_not(None))
    return or_(DeliveryRow.import_id.is_not(None), task)


def deliveries(rows: Iterable[RowMapping]) -> list[Delivery]:
    return [Delivery(**{**row, "status": DeliveryStatus(row["status"])}) for row in rows]


async def record(engine: Engine, tries: Iterable[Attempt]) -> None:
    """Store outcomes in one transaction. An outcome is stored if its attempt is the present one.

    Raises:
        StoreError: Nothing was stored.
    """
    async with writing(engine) as connection:
        for tried in tries:
            await connection.execute(outcome_of(tried))


def outcome_of(tried: Attempt) -> Update:
    return (
        update(DeliveryRow)
        .where(
            DeliveryRow.id == tried.delivery_id,
            DeliveryRow.attempts == tried.attempt - 1,
            DeliveryRow.status == PENDING,
        )
        .values(
            status=tried.status.value,
            attempts=tried.attempt,
            due_at=tried.due_at,
            tried_at=tried.at,
            response=tried.response,
            error=tried.error[:MAX_ERROR].replace("\0", "") if tried.error else None,
        )
    )


async def give_up(
    engine: Engine, *, begun_before: float, error: str, trying: Collection[str]
) -> int:
    """Let the deliveries fail that began before `begun_before` and are not being tried now.

    Return their number.

    Raises:
        StoreError: Nothing was changed.
    """
    started_at = func.coalesce(DeliveryRow.renewed_at, DeliveryRow.created_at)
    too_old = (
        update(DeliveryRow)
        .where(DeliveryRow.status == PENDING, started_at < begun_before)
        .where(DeliveryRow.id.not_in(trying))
        .values(status=FAILED, due_at=None, error=error)
    )
    async with writing(engine) as connection:
        return (await connection.execute(too_old)).rowcount


async def bring_forward(engine: Engine, *, now: float) -> int:
    """Let the deliveries be due now whose times are in the future of a clock that was set back.

    Otherwise a receiver would be called only when the clock has caught up. Return their number.

    Raises:
        StoreError: Nothing was changed.
    """
    last = func.coalesce(DeliveryRow.tried_at, DeliveryRow.renewed_at, DeliveryRow.created_at)
    waiting = update(DeliveryRow).where(DeliveryRow.status == PENDING, DeliveryRow.due_at > now)
    async with writing(engine) as connection:
        forward = waiting.where(last > now + SET_BACK).values(due_at=now)
        return (await connection.execute(forward)).rowcount


async def of_task(engine: Engine, task_id: str) -> list[Delivery]:
    """Return the deliveries of a task, the oldest first.

    Raises:
        StoreError: They cannot be read now.
    """
    return await deliveries_where(engine, DeliveryRow.task_id == task_id)


async def of_import(engine: Engine, import_id: str) -> list[Delivery]:
    """Return the delivery of an import, if it has one.

    Raises:
        StoreError: It cannot be read now.
    """
    return await deliveries_where(engine, DeliveryRow.import_id == import_id)


async def deliveries_where(engine: Engine, which: ColumnElement[bool]) -> list[Delivery]:
    query = select(*COLUMNS).where(which).order_by(DeliveryRow.created_at)
    async with looking_up(engine) as connection:
        return deliveries((await connection.execute(query)).mappings())


async def redeliver(engine: Engine, task_id: str, *, now: float) -> int:
    """Restart all deliveries of a task, in whatever state they are. Return their number.

    Raises:
        StoreError: Nothing was changed.
    """
    return await restart(engine, DeliveryRow.task_id == task_id, now)


async def redeliver_import(engine: Engine, import_id: str, *, now: float) -> int:
    """Restart the delivery of an import, in whatever state it is. Return how many it has.

    Raises:
        StoreError: Nothing was changed.
    """
    return await restart(engine, DeliveryRow.import_id == import_id, now)


async def redeliver_failed(engine: Engine, *, now: float) -> int:
    """Restart every delivery that failed. Return their number.

    Raises:
        StoreError: Nothing was changed.
    """
    return await restart(engine, DeliveryRow.status == FAILED, now)


async def restart(engine: Engine, which: ColumnElement[bool], now: float) -> int:
    """Give deliveries as many attempts, and as much time, as new ones have."""
    restarted = update(DeliveryRow).where(which)
    restarted = restarted.values(status=PENDING, attempts=0, due_at=now, renewed_at=now)
    async with writing(engine) as connection:
        return (await connection.execute(restarted)).rowcount

"""Webhook deliveries: each is made by the transaction that ends its task, so none is forgotten.

A delivery is PENDING until its receiver has accepted it, the last try has failed, or it is too old.
The supervisor alone tries; what it was trying when it died is still PENDING, and is tried again.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, RowMapping, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Update

from captiond.callbacks import DeliveryStatus, parse_url
from captiond.store.sqlite import Engine, reading, writing
from captiond.store.tables import DeliveryRow, TaskRow

PENDING = DeliveryStatus.PENDING.value
FAILED = DeliveryStatus.FAILED.value
MAX_ERROR = 300
COLUMNS = (
    DeliveryRow.id,
    DeliveryRow.task_id,
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
    """A delivery as it stands; times are Unix seconds, `due_at` is None once it has ended.

    `attempts` counts the tries that came to an end; `response` is the last one's HTTP status, or
    None where there was none, and `error` what was wrong with it.
    """

    id: str
    task_id: str
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
class Tried:
    """The end of one try; `attempt` counts from 1 and fences it."""

    delivery_id: str
    attempt: int
    at: float
    status: DeliveryStatus
    due_at: float | None
    response: int | None
    error: str | None


async def announce(connection: AsyncConnection, task_id: str, now: float) -> None:
    """Make the delivery of a task that ends in this transaction, if its client asked for one."""
    query = select(TaskRow.callback_url).where(TaskRow.id == task_id)
    url = (await connection.execute(query)).scalar_one_or_none()
    if url is not None:
        row = {
            "id": f"msg_{secrets.token_hex(16)}",
            "task_id": task_id,
            "url": url,
            "host": parse_url(url).authority,
            "status": PENDING,
            "attempts": 0,
            "created_at": now,
            "due_at": now,
        }
        await connection.execute(insert(DeliveryRow), row)


async def withhold(connection: AsyncConnection, task_id: str) -> None:
    """Drop what is to be delivered of a task that goes on after all."""
    owed = (DeliveryRow.task_id == task_id) & (DeliveryRow.status == PENDING)
    await connection.execute(delete(DeliveryRow).where(owed))


async def due(
    engine: Engine, *, now: float, per_host: int, trying: Mapping[str, str]
) -> list[Delivery]:
    """The deliveries to try now: of each host the longest due, until `per_host` are being tried.

    `trying` holds the host of each delivery that is being tried, by its id. Each host is asked for
    by itself, so that a backlog of one is never read on the way to another's.
    """
    found: list[Delivery] = []
    async with reading(engine) as connection:
        host = ""
        while (host := await host_after(connection, host) or "") != "":
            room = per_host - sum(1 for busy in trying.values() if busy == host)
            if room > 0:
                found += await due_at_host(connection, host, now, room, trying.keys())
    return found


async def host_after(connection: AsyncConnection, host: str) -> str | None:
    """The next host with pending deliveries, in alphabetical order."""
    query = select(func.min(DeliveryRow.host))
    query = query.where(DeliveryRow.status == PENDING, DeliveryRow.host > host)
    return (await connection.execute(query)).scalar_one()


async def due_at_host(
    connection: AsyncConnection, host: str, now: float, limit: int, trying: Collection[str]
) -> list[Delivery]:
    query = (
        select(*COLUMNS)
        .where(DeliveryRow.status == PENDING, DeliveryRow.host == host, DeliveryRow.due_at <= now)
        .where(DeliveryRow.id.not_in(trying), has_ended())
        .order_by(DeliveryRow.due_at)
        .limit(limit)
    )
    return deliveries((await connection.execute(query)).mappings())


def has_ended() -> ColumnElement[bool]:
    """Whether a delivery's task has; one that is tried again may have deliveries from before."""
    return exists().where(TaskRow.id == DeliveryRow.task_id, TaskRow.finished_at.is_not(None))


def deliveries(rows: Iterable[RowMapping]) -> list[Delivery]:
    return [Delivery(**{**row, "status": DeliveryStatus(row["status"])}) for row in rows]


async def record(engine: Engine, tries: Iterable[Tried]) -> None:
    """Write the ends of tries in one transaction; one that is not the present try is dropped."""
    async with writing(engine) as connection:
        for tried in tries:
            await connection.execute(end_of_try(tried))


def end_of_try(tried: Tried) -> Update:
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
            error=tried.error[:MAX_ERROR] if tried.error else None,
        )
    )


async def give_up(
    engine: Engine, *, begun_before: float, error: str, trying: Collection[str]
) -> int:
    """End as FAILED what was begun before then and is not being tried now; their number."""
    begun = func.coalesce(DeliveryRow.renewed_at, DeliveryRow.created_at)
    too_old = (
        update(DeliveryRow)
        .where(DeliveryRow.status == PENDING, begun < begun_before)
        .where(DeliveryRow.id.not_in(trying))
        .values(status=FAILED, due_at=None, error=error)
    )
    async with writing(engine) as connection:
        return (await connection.execute(too_old)).rowcount


async def of_task(engine: Engine, task_id: str) -> list[Delivery]:
    query = select(*COLUMNS).where(DeliveryRow.task_id == task_id).order_by(DeliveryRow.created_at)
    async with reading(engine) as connection:
        return deliveries((await connection.execute(query)).mappings())


async def redeliver(engine: Engine, task_id: str, *, now: float) -> int:
    """Let a task's deliveries be tried anew, whatever became of them; their number."""
    return await try_anew(engine, DeliveryRow.task_id == task_id, now)


async def redeliver_failed(engine: Engine, *, now: float) -> int:
    """Let every delivery that was given up be tried anew; their number."""
    return await try_anew(engine, DeliveryRow.status == FAILED, now)


async def try_anew(engine: Engine, which: ColumnElement[bool], now: float) -> int:
    """A life from the beginning: with all its tries, and as long as a new one's."""
    anew = update(DeliveryRow).where(which)
    anew = anew.values(status=PENDING, attempts=0, due_at=now, renewed_at=now)
    async with writing(engine) as connection:
        return (await connection.execute(anew)).rowcount

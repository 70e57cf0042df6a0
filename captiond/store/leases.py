"""Leases: who holds claims, and when the claims of a dead holder may be taken from it.

A node is one run of a supervisor. The owner of a claim is a process of a node, `<node>/<process>`.
A node's lease covers all its claims. It is extended by each claim and by `renew`, and it expires by
the database's clock, so the clocks of the nodes do not matter.

Claims are released in three cases only: the supervisor saw the owner die (`claims.requeue`), the
lease of the owner's node has expired (`requeue_expired`), or the lock of a data folder proves that
no earlier node of this folder lives (`recover`). A node never takes claims from itself, so a clock
that jumps forward does no harm to a living process.

The data folder is the home of its nodes, and its name is part of theirs. On SQLite the database has
one home, and on PostgreSQL each host has its own.
"""

import re
import secrets

from sqlalchemy import (
    ColumnElement,
    Float,
    String,
    Text,
    bindparam,
    delete,
    exists,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.jobs import Status
from captiond.store.backend import Statement
from captiond.store.engine import Engine, reading, writing
from captiond.store.expressions import clock
from captiond.store.locks import lock_tasks_of
from captiond.store.patience import repeated
from captiond.store.queued_shards import OF_DEAD_NODES, OF_NODES, of_node, release_shards
from captiond.store.tables import AskRow, ImageRow, NodeRow, TaskRow
from captiond.store.transitions import IN_PROGRESS, PENDING, image_moves
from captiond.store.turns import enter

LEASE_SECONDS = 60.0
MAX_HOST = 20
NODE, EXPIRY = bindparam("node", type_=String), clock() + bindparam("seconds", type_=Float)
EXTEND = update(NodeRow).where(NodeRow.id == NODE).values(expires_at=EXPIRY)
REPORT = EXTEND.values(report=bindparam("report", type_=Text))
# A claim whose node has no lease. Each claim opens one in its own transaction, so the node is dead.
IS_ORPHAN = or_(
    ImageRow.owner.is_(None), ~exists().where(ImageRow.owner.startswith(NodeRow.id + "/"))
)
HOLD = Statement(
    lambda sql: sql.insert_or_update(
        NodeRow,
        ("id", "expires_at"),
        select(NODE, EXPIRY).where(NODE != ""),
        key="id",
        changes=lambda new: {"expires_at": new.expires_at},
    )
)


def new_node(host: str, home: str) -> str:
    """Return an id for this run of a supervisor on `host`, unlike every earlier one.

    `home` is the name of its data folder.
    """
    return f"{readable(host)}-{home}-{secrets.token_hex(6)}"


def readable(host: str) -> str:
    """Return the name of a host as a part of an id. The kernel allows any bytes in the name."""
    return re.sub("[^a-z0-9.-]", "-", host.lower())[:MAX_HOST]


def of_same_home(node: str) -> ColumnElement[bool]:
    """Return the condition that a node had the same data folder."""
    home = node.rpartition("-")[0].rpartition("-")[2]
    return NodeRow.id.contains(f"-{home}-", autoescape=True)


def owner_of(node: str, process: str) -> str:
    """Return the owner of the claims that `node` makes for one of its processes."""
    return f"{node}/{process}"


def held_by(node: str) -> ColumnElement[bool]:
    """Return the condition that an image is claimed for a process of `node`."""
    return ImageRow.owner.startswith(f"{node}/", autoescape=True)


async def hold(connection: AsyncConnection, node: str, seconds: float = LEASE_SECONDS) -> None:
    """Extend the lease of a node, within the transaction that claims images for it."""
    await connection.execute(HOLD.on(connection), {"node": node, "seconds": seconds})


@repeated
async def renew(
    engine: Engine, node: str, seconds: float = LEASE_SECONDS, *, report: str | None = None
) -> bool:
    """Extend the lease of a node, and store its report. Return whether the node still had a lease.

    If it had none, others may have taken its claims. If the database is used by one node only,
    nothing is written while it holds no claims, and nobody takes any. With several nodes, the lease
    is also the sign that the node lives.

    Raises:
        StoreError: The lease was not extended.
    """
    holds_claims = exists().where(IN_PROGRESS, held_by(node))
    values = {"node": node, "seconds": seconds}
    async with writing(engine) as connection:
        if not engine.database.shared:
            await connection.execute(EXTEND.where(holds_claims), values)
            return True
        extended = await connection.execute(REPORT, {**values, "report": report})
        if extended.rowcount == 0:
            await hold(connection, node, seconds)
            await connection.execute(REPORT, {**values, "report": report})
        return extended.rowcount == 1


@repeated
async def requeue_expired(engine: Engine, node: str) -> int:
    """Release the claims of other nodes whose lease has expired. Return the number of images.

    The late results of such a node are dropped, because each new claim raises the attempt.

    Raises:
        StoreError: Nothing was released.
    """
    expired = delete(NodeRow).where(NodeRow.expires_at < clock(), NodeRow.id != node)
    async with writing(engine) as connection:
        dead = (await connection.execute(expired.returning(NodeRow.id))).scalars().all()
        for other in dead:
            await release_asks(connection, other)
            await release_shards(connection, of_node(other))
        return sum([await release_claims(connection, held_by(other)) for other in dead])


@repeated
async def recover(engine: Engine, node: str) -> int:
    """Release the claims of every node that is known to be dead. Return the number of images.

    The caller must hold the lock of the data folder, which proves that no other node of this folder
    lives. If no other host can use the database, there are no other nodes at all. Otherwise those
    of other folders keep their claims until their leases expire.

    Open tasks without a turn get one, so that a restart mends whatever was lost.

    Raises:
        StoreError: Nothing was released.
    """
    async with writing(engine) as connection:
        if engine.database.shared:
            dead = or_(of_same_home(node), NodeRow.expires_at < clock())
            gone = delete(NodeRow).where(dead, NodeRow.id != node).returning(NodeRow.id)
            for other in (await connection.execute(gone)).scalars().all():
                await release_asks(connection, other)
            released = await release_claims(connection, IS_ORPHAN)
            await release_shards(connection, OF_DEAD_NODES)
        else:
            await connection.execute(delete(NodeRow).where(NodeRow.id != node))
            others = or_(ImageRow.owner.is_(None), ~held_by(node))
            released = await release_claims(connection, others)
            await release_shards(connection, OF_NODES & ~of_node(node))
        unfinished = select(TaskRow.id).where(TaskRow.finished_at.is_(None), TaskRow.turn.is_(None))
        await enter(connection, (await connection.execute(unfinished)).scalars(), new=False)
        return released


@repeated
async def release(engine: Engine, node: str) -> int:
    """Release all claims of a node whose processes have ended. Return the number of images.

    Raises:
        StoreError: Nothing was released; the next start releases the claims.
    """
    async with writing(engine) as connection:
        await connection.execute(delete(NodeRow).where(NodeRow.id == node))
        await release_asks(connection, node)
        await release_shards(connection, of_node(node))
        return await release_claims(connection, held_by(node))


async def release_asks(connection: AsyncConnection, node: str) -> None:
    """Delete what a node asked the others for, and let others caption what it had claimed."""
    await connection.execute(delete(AskRow).where(AskRow.asker == node))
    held = AskRow.owner.startswith(f"{node}/", autoescape=True)
    await connection.execute(update(AskRow).where(held, AskRow.status.is_(None)).values(owner=None))


async def images_held(engine: Engine, node: str) -> set[int]:
    """Return the ids of the images that are claimed for processes of a node.

    Raises:
        StoreError: They cannot be read now.
    """
    async with reading(engine) as connection:
        held = select(ImageRow.id).where(IN_PROGRESS, held_by(node))
        return set((await connection.execute(held)).scalars())


async def living(engine: Engine, node: str) -> dict[str, str | None]:
    """Return the reports of all other nodes that have a lease, by their ids.

    Raises:
        StoreError: They cannot be read now.
    """
    others = select(NodeRow.id, NodeRow.report).where(
        NodeRow.expires_at > clock(), NodeRow.id != node
    )
    async with reading(engine) as connection:
        return {row.id: row.report for row in (await connection.execute(others)).all()}


async def living_elsewhere(engine: Engine, node: str) -> dict[str, str | None]:
    """Return the reports of nodes with a lease that have another data folder than `node`, by id.

    Raises:
        StoreError: They cannot be read now.
    """
    others = select(NodeRow.id, NodeRow.report).where(
        NodeRow.expires_at > clock(), ~of_same_home(node)
    )
    async with reading(engine) as connection:
        rows = await connection.execute(others.order_by(NodeRow.id))
        return {row.id: row.report for row in rows.all()}


async def release_claims(connection: AsyncConnection, which: ColumnElement[bool]) -> int:
    """Let claimed images wait for the next claim. Return their number."""
    await lock_tasks_of(connection, which & IN_PROGRESS)
    claimed = update(ImageRow).where(
        image_moves(Status.PROCESSING, Status.PENDING, by_state=True), which
    )
    released = claimed.values(status=PENDING, owner=None).returning(ImageRow.task_id)
    task_ids = (await connection.execute(released)).scalars().all()
    await enter(connection, set(task_ids), new=False)
    return len(task_ids)

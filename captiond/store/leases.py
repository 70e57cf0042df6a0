"""Leases: who holds claims, and when the claims of a dead holder may be taken from it.

A node is one run of a supervisor. The owner of a claim is a process of a node, `<node>/<process>`.
A node's lease covers all its claims. It is extended by each claim and by `renew`, and it expires by
the database's clock, so the clocks of the nodes do not matter.

Claims are released in three cases only: the supervisor saw the owner die (`claims.requeue`), the
lease of the owner's node has expired (`requeue_expired`), or the data folder's lock proves that no
earlier node lives (`recover`). A node never takes claims from itself, so a clock that jumps forward
does no harm to a living process.
"""

import re
import secrets

from sqlalchemy import (
    ColumnElement,
    Float,
    String,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.jobs import Status
from captiond.store.engine import Engine, writing
from captiond.store.sqlite import clock
from captiond.store.tables import ImageRow, NodeRow, TaskRow
from captiond.store.transitions import PENDING, PROCESSING, image_moves
from captiond.store.turns import enter

LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0  # between two calls of `renew`; five may fail before a lease expires
MAX_HOST = 20
NODE, EXPIRY = bindparam("node", type_=String), clock() + bindparam("seconds", type_=Float)
EXTEND = update(NodeRow).where(NodeRow.id == NODE).values(expires_at=EXPIRY)
OPEN_LEASE = insert(NodeRow).values(id=NODE, expires_at=EXPIRY)


def new_node(host: str) -> str:
    """Return an id for this run of a supervisor on `host`, unlike every earlier one."""
    readable = re.sub("[^a-z0-9.-]", "-", host.lower())[:MAX_HOST]
    return f"{readable}-{secrets.token_hex(8)}"


def owner_of(node: str, process: str) -> str:
    """Return the owner of the claims that `node` makes for one of its processes."""
    return f"{node}/{process}"


def held_by(node: str) -> ColumnElement[bool]:
    """Return the condition that an image is claimed for a process of `node`."""
    return ImageRow.owner.startswith(f"{node}/", autoescape=True)


async def hold(connection: AsyncConnection, node: str, seconds: float = LEASE_SECONDS) -> None:
    """Extend the lease of a node, within the transaction that claims images for it."""
    parameters = {"node": node, "seconds": seconds}
    if (await connection.execute(EXTEND, parameters)).rowcount == 0:
        await connection.execute(OPEN_LEASE, parameters)


async def renew(engine: Engine, node: str, seconds: float = LEASE_SECONDS) -> None:
    """Extend the lease of a node that holds claims. Nothing is written if it holds none.

    Raises:
        StoreError: The lease was not extended.
    """
    holds_claims = exists().where(ImageRow.status == PROCESSING, held_by(node))
    async with writing(engine) as connection:
        extend = EXTEND.where(holds_claims)
        await connection.execute(extend, {"node": node, "seconds": seconds})


async def requeue_expired(engine: Engine, node: str) -> int:
    """Release the claims of other nodes whose lease has expired. Return the number of images.

    The late results of such a node are dropped, because each new claim raises the attempt.

    Raises:
        StoreError: Nothing was released.
    """
    expired = delete(NodeRow).where(NodeRow.expires_at < clock(), NodeRow.id != node)
    async with writing(engine) as connection:
        dead = (await connection.execute(expired.returning(NodeRow.id))).scalars().all()
        return sum([await release_claims(connection, held_by(other)) for other in dead])


async def recover(engine: Engine, node: str) -> int:
    """Release the claims of every node but `node`. Return the number of images.

    The caller must hold the lock of the data folder, which proves that no other node lives. Open
    tasks without a turn get one, so that a restart mends whatever was lost.

    Raises:
        StoreError: Nothing was released.
    """
    async with writing(engine) as connection:
        await connection.execute(delete(NodeRow).where(NodeRow.id != node))
        others = or_(ImageRow.owner.is_(None), ~held_by(node))
        released = await release_claims(connection, others)
        unfinished = select(TaskRow.id).where(TaskRow.finished_at.is_(None), TaskRow.turn.is_(None))
        await enter(connection, (await connection.execute(unfinished)).scalars(), new=False)
        return released


async def release(engine: Engine, node: str) -> int:
    """Release all claims of a node whose processes have ended. Return the number of images.

    Raises:
        StoreError: Nothing was released; the next start releases the claims.
    """
    async with writing(engine) as connection:
        await connection.execute(delete(NodeRow).where(NodeRow.id == node))
        return await release_claims(connection, held_by(node))


async def release_claims(connection: AsyncConnection, which: ColumnElement[bool]) -> int:
    """Let claimed images wait for the next claim. Return their number."""
    claimed = update(ImageRow).where(
        image_moves(Status.PROCESSING, Status.PENDING, by_state=True), which
    )
    released = claimed.values(status=PENDING, owner=None).returning(ImageRow.task_id)
    task_ids = (await connection.execute(released)).scalars().all()
    await enter(connection, set(task_ids), new=False)
    return len(task_ids)

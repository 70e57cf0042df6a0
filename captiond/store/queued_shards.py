"""Shards of queued imports: model processes of the service claim them, in turns of the imports.

A claim ends in one of these ways: the shard is finished (`shard_claims.finish_shard`), the process
refuses it because it cannot read its images or write its results, the process or its node dies, or
nobody has held the claim for `CLAIM_SECONDS`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.errors import StoreDamaged
from captiond.shardimages import ShardImage
from captiond.store import shards
from captiond.store.engine import Engine, looking_up, writing
from captiond.store.expressions import clock
from captiond.store.patience import repeated
from captiond.store.results import printable
from captiond.store.shard_claims import ShardClaim, blame_of, blame_text, claim_within
from captiond.store.shards import IS_QUEUED, SECONDS, Form
from captiond.store.tables import ImportRow, NodeRow, ShardRow
from captiond.store.transitions import PENDING, PROCESSING

MAX_PROBLEM = 500  # characters
CLAIMED = ShardRow.owner.is_not(None)  # the condition of the index of claimed shards
OF_NODES = ShardRow.owner.contains("/")  # not of commands, which claim shards as well
OF_DEAD_NODES = OF_NODES & ~exists().where(ShardRow.owner.startswith(NodeRow.id + "/"))


@dataclass(frozen=True, slots=True)
class QueuedShard:
    """A claimed shard of a queued import, and where its results go."""

    claim: ShardClaim
    output: str
    form: Form


async def claim_next(
    engine: Engine, owner: str, *, without: Collection[str] = ()
) -> QueuedShard | None:
    """Claim a shard of the queued import whose turn it is, or return None.

    Imports take turns by the number of images that were claimed of them. `without` has the ids of
    imports that are left out.

    Raises:
        StoreDamaged: The first shard of an import cannot be read, and no other import has one.
        StoreError: No shard was claimed; if it is StoreUncertain, the claim ends by itself.
    """
    waiting = (
        select(ImportRow.id, ImportRow.output, ImportRow.form)
        .where(IS_QUEUED, ImportRow.open_shards > 0, ImportRow.id.not_in(without))
        .order_by(ImportRow.turn, ImportRow.id)
    )
    async with looking_up(engine) as connection:
        imports = (await connection.execute(waiting)).all()
    damage: StoreDamaged | None = None
    for row in imports:
        try:
            claim = await claim_of(engine, row.id, owner)
        except StoreDamaged as error:  # the other imports go on
            damage = error
            continue
        if claim is not None:
            return QueuedShard(claim, row.output, row.form)
    if damage is not None:
        raise damage
    return None


@repeated
async def claim_of(engine: Engine, import_id: str, owner: str) -> ShardClaim | None:
    """Claim the first shard of an import, and count its images for the import's turn."""
    async with writing(engine) as connection:
        claim = await claim_within(connection, import_id, owner)
        if claim is not None:
            moved = update(ImportRow).where(ImportRow.id == import_id)
            await connection.execute(moved.values(turn=ImportRow.turn + len(claim.addresses)))
        return claim


def is_claimed_as(claim: ShardClaim) -> ColumnElement[bool]:
    """Return the condition that a claim is still valid."""
    return (
        (ShardRow.import_id == claim.import_id)
        & (ShardRow.number == claim.number)
        & (ShardRow.attempt == claim.attempt)
        & (ShardRow.status == PROCESSING)
    )


@repeated
async def hold(engine: Engine, claims: Sequence[ShardClaim]) -> list[ShardClaim]:
    """Extend claims, and return those that are still valid. The others are lost or cancelled."""
    held = []
    async with writing(engine) as connection:
        for claim in claims:
            extend = update(ShardRow).where(is_claimed_as(claim))
            extended = await connection.execute(
                extend.values(claimed_until=clock() + SECONDS), {"seconds": shards.CLAIM_SECONDS}
            )
            if extended.rowcount:
                held.append(claim)
    return held


@repeated
async def refuse(engine: Engine, claim: ShardClaim, problem: str) -> None:
    """Let another process claim a shard that this one cannot work at, and note why.

    It is then the last one of its import.
    """
    freed = {"status": PENDING, "owner": None, "claimed_until": None}
    async with writing(engine) as connection:
        refused = await connection.execute(
            update(ShardRow)
            .where(is_claimed_as(claim))
            .values(**freed, refusals=ShardRow.refusals + 1)
        )
        if refused.rowcount:
            noted = update(ImportRow).where(ImportRow.id == claim.import_id)
            await connection.execute(noted.values(problem=printable(problem)[:MAX_PROBLEM]))


# ---------------------------------------------------------------- processes and nodes that are dead


@repeated
async def release_shards_of(
    engine: Engine, owner: str, blamed: Mapping[ShardImage, int] | None = None
) -> int:
    """Release the shards of a process that has exited, and return their number.

    `blamed` has points of blame for images that may have been the cause.
    """
    async with writing(engine) as connection:
        await note_blame(connection, owner, blamed or {})
        return await release_shards(connection, ShardRow.owner == owner)


async def note_blame(
    connection: AsyncConnection, owner: str, blamed: Mapping[ShardImage, int]
) -> None:
    """Add points of blame to those that images of claimed shards have already."""
    for import_id, number, attempt in {image[:3] for image in blamed}:
        which = (
            (ShardRow.import_id == import_id)
            & (ShardRow.number == number)
            & (ShardRow.attempt == attempt)
            & (ShardRow.owner == owner)
        )
        row = (await connection.execute(select(ShardRow.blamed).where(which))).one_or_none()
        if row is not None:
            points = Counter(blame_of(row.blamed))
            points.update(
                {i.place: n for i, n in blamed.items() if i[:3] == (import_id, number, attempt)}
            )
            await connection.execute(
                update(ShardRow).where(which).values(blamed=blame_text(points))
            )


async def release_shards(connection: AsyncConnection, which: ColumnElement[bool]) -> int:
    """Let claimed shards wait for the next claim. Return their number."""
    freed = update(ShardRow).where(CLAIMED, ShardRow.status == PROCESSING, which)
    values = {"status": PENDING, "owner": None, "claimed_until": None}
    return (await connection.execute(freed.values(**values))).rowcount


def of_node(node: str) -> ColumnElement[bool]:
    """Return the condition that a shard is claimed for a process of a node."""
    return ShardRow.owner.startswith(f"{node}/", autoescape=True)

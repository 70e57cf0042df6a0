"""Shards of imports: they are claimed and finished as a whole.

Each change of state carries its guard, as everywhere in the store: a claim raises the shard's
attempt, and only the present attempt can finish it. A claim that its owner does not extend ends by
the database's clock.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from captiond.errors import StoreDamaged
from captiond.store import shards
from captiond.store.engine import Engine, reading, writing
from captiond.store.expressions import clock
from captiond.store.patience import repeated
from captiond.store.shards import SECONDS, ImportState, finish_import, read_import, unpacked
from captiond.store.tables import ImportRow, ShardRow
from captiond.store.transitions import COMPLETED, OPEN, PENDING, PROCESSING

EXTEND_SECONDS = 10.0  # between two calls of `extend`
Candidate = aliased(ShardRow)


@dataclass(frozen=True, slots=True)
class ShardClaim:
    """A claimed shard. `attempt` fences its results.

    `refusals` counts processes that could not read its images. `blamed` has points of blame of
    images, by their places.
    """

    import_id: str
    number: int
    attempt: int
    addresses: tuple[str, ...]
    refusals: int = 0
    blamed: Mapping[int, int] = field(default_factory=dict, hash=False)


def claimable(shard: type[ShardRow]) -> ColumnElement[bool]:
    """Return the condition that a shard waits, or that its claim has ended."""
    waits = or_(shard.status == PENDING, shard.claimed_until < clock())
    return and_(shard.status.in_(OPEN), waits)


@repeated
async def claim_shard(engine: Engine, import_id: str, owner: str) -> ShardClaim | None:
    """Claim the first shard that waits, or whose claim has ended. Return None if there is none."""
    async with writing(engine) as connection:
        return await claim_within(connection, import_id, owner)


async def claim_within(
    connection: AsyncConnection, import_id: str, owner: str
) -> ShardClaim | None:
    """Claim the first shard of an import. Those that were refused come last.

    Raises:
        StoreDamaged: Its row cannot be read. The claim is not made.
    """
    first = (
        select(Candidate.number)
        .where(Candidate.import_id == import_id, claimable(Candidate))
        .order_by(Candidate.refusals, Candidate.number)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    claim = (
        update(ShardRow)
        .where(ShardRow.import_id == import_id, ShardRow.number == first, claimable(ShardRow))
        .values(
            status=PROCESSING,
            owner=owner,
            attempt=ShardRow.attempt + 1,
            claimed_until=clock() + SECONDS,
        )
        .returning(
            ShardRow.number,
            ShardRow.attempt,
            ShardRow.addresses,
            ShardRow.refusals,
            ShardRow.blamed,
        )
    )
    row = (await connection.execute(claim, {"seconds": shards.CLAIM_SECONDS})).one_or_none()
    if row is None:
        return None
    try:
        addresses, blamed = unpacked(row.addresses), blame_of(row.blamed)
    except (ValueError, zlib.error) as error:
        raise StoreDamaged(
            f"{import_id}: the row of shard {row.number} is damaged: {error}; captiond imports "
            "cancel ends the import, and its images can be imported into another folder"
        ) from error
    return ShardClaim(import_id, row.number, row.attempt, addresses, row.refusals, blamed)


def blame_of(text: str | None) -> dict[int, int]:
    """Return points of blame by the places of images."""
    return {int(place): points for place, points in json.loads(text or "{}").items()}


def blame_text(points: Mapping[int, int]) -> str:
    return json.dumps(points)


@repeated
async def extend(engine: Engine, import_id: str, owner: str) -> ImportState:
    """Extend all claims of a process, that of the listing as well.

    Return the import, which may be cancelled.
    """
    held = update(ShardRow).where(
        ShardRow.import_id == import_id, ShardRow.owner == owner, ShardRow.status == PROCESSING
    )
    listing = update(ImportRow).where(ImportRow.id == import_id, ImportRow.lister == owner)
    seconds = {"seconds": shards.CLAIM_SECONDS}
    async with writing(engine) as connection:
        await connection.execute(held.values(claimed_until=clock() + SECONDS), seconds)
        await connection.execute(listing.values(lister_until=clock() + SECONDS), seconds)
    return await read_import(engine, import_id)


@repeated
async def finish_shard(
    engine: Engine, claim: ShardClaim, *, captioned: int, failed: int, now: float
) -> bool:
    """Finish a shard whose results are written. Return whether the claim was still valid."""
    finish = (
        update(ShardRow)
        .where(ShardRow.import_id == claim.import_id, ShardRow.number == claim.number)
        .where(
            # guard: shard-attempt-fence
            ShardRow.attempt == claim.attempt,
            ShardRow.status == PROCESSING,
        )
        .values(status=COMPLETED, owner=None, claimed_until=None, addresses=None)
    )
    async with writing(engine) as connection:
        if not (await connection.execute(finish)).rowcount:
            return False
        await connection.execute(
            update(ImportRow)
            .where(ImportRow.id == claim.import_id)
            .values(
                open_shards=ImportRow.open_shards - 1,
                captioned=ImportRow.captioned + captioned,
                failed=ImportRow.failed + failed,
            )
        )
        await finish_import(connection, claim.import_id, now)
        return True


@repeated
async def release_shards(engine: Engine, import_id: str, owner: str) -> None:
    """Release all that a process holds of an import: its claims, and the listing."""
    async with writing(engine) as connection:
        await connection.execute(
            update(ShardRow)
            .where(ShardRow.import_id == import_id, ShardRow.owner == owner)
            .where(ShardRow.status == PROCESSING)
            .values(status=PENDING, owner=None, claimed_until=None)
        )
        await connection.execute(
            update(ImportRow)
            .where(ImportRow.id == import_id, ImportRow.lister == owner)
            .values(lister=None, lister_until=None)
        )


async def finished_shards(
    engine: Engine, import_id: str, after: int, *, limit: int
) -> Sequence[int]:
    """Return the numbers of finished shards that follow `after`, at most `limit` of them."""
    query = (
        select(ShardRow.number)
        .where(ShardRow.import_id == import_id, ShardRow.number > after)
        .where(ShardRow.status == COMPLETED)
        .order_by(ShardRow.number)
        .limit(limit)
    )
    async with reading(engine) as connection:
        return (await connection.execute(query)).scalars().all()

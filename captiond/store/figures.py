"""Numbers of the database for the metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import BigInteger, Float, case, cast, func, select, type_coerce

from captiond.callbacks import DeliveryStatus
from captiond.store.engine import Engine, reading
from captiond.store.shards import IS_QUEUED
from captiond.store.tables import DeliveryRow, ImageRow, ImportRow, ShardRow, TaskRow
from captiond.store.transitions import IN_PROGRESS

PENDING = DeliveryStatus.PENDING.value
SHARDS = select(
    cast(func.coalesce(func.sum(ImportRow.shards), 0), BigInteger),
    cast(func.coalesce(func.sum(ImportRow.open_shards), 0), BigInteger),
).where(IS_QUEUED)
CLAIMED_SHARDS = (
    select(func.count())
    .select_from(ShardRow)
    .join(ImportRow, ImportRow.id == ShardRow.import_id)
    .where(ShardRow.owner.is_not(None), IS_QUEUED)
)


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """`waiting` images of tasks are not claimed. `oldest` is the time at which the oldest
    task was accepted that has a waiting image, None if no image waits. `webhooks` are not delivered
    and not given up. `size` is the size of the database in bytes. `shards` are those of unfinished
    imports that are queued, by state.
    """

    waiting: int
    oldest: float | None
    webhooks: int
    size: int
    shards: Mapping[str, int] = field(default_factory=dict)


async def store_figures(engine: Engine) -> StoreFigures:
    """Read the numbers. The rows of all unfinished tasks are read for it.

    Raises:
        StoreError: The database cannot be read now.
    """
    images = cast(func.coalesce(func.sum(TaskRow.open_images), 0), BigInteger)
    waiting = case((TaskRow.turn.is_not(None), TaskRow.created_at), else_=None)
    oldest = type_coerce(func.min(waiting), Float)
    of_tasks = select(images, oldest).where(TaskRow.finished_at.is_(None))
    claimed = select(func.count()).select_from(ImageRow).where(IN_PROGRESS)
    pending = select(func.count()).where(DeliveryRow.status == PENDING)
    async with reading(engine) as connection:
        row = (await connection.execute(of_tasks)).one()
        in_progress = (await connection.execute(claimed)).scalar_one()
        webhooks = (await connection.execute(pending)).scalar_one()
        size = await engine.database.size(connection)
        listed, open_ = (await connection.execute(SHARDS)).one()
        held = (await connection.execute(CLAIMED_SHARDS)).scalar_one()
    shards = {"waiting": open_ - held, "claimed": held, "finished": listed - open_}
    return StoreFigures(row[0] - in_progress, row[1], webhooks, size, shards)

"""Numbers of the database for the metrics."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Float, case, cast, func, select, type_coerce

from captiond.callbacks import DeliveryStatus
from captiond.store.engine import Engine, reading
from captiond.store.tables import DeliveryRow, ImageRow, TaskRow
from captiond.store.transitions import IN_PROGRESS

PENDING = DeliveryStatus.PENDING.value


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """`waiting` images of tasks are not claimed. `oldest` is the time at which the oldest
    task was accepted that has a waiting image, None if no image waits. `webhooks` are not delivered
    and not given up. `size` is the size of the database in bytes.
    """

    waiting: int
    oldest: float | None
    webhooks: int
    size: int


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
    return StoreFigures(row[0] - in_progress, row[1], webhooks, size)

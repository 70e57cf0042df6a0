"""Care of the database while the service runs; the supervisor alone calls it."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.store.sqlite import BUSY_SECONDS, Engine, outside_transaction

LONG_LOG = 16 * 1024  # pages, 64 MB
HELD_UP_MS = 200  # how long writers may be, by readers that hold up the moving


async def checkpoint(engine: Engine) -> int:
    """Move the write-ahead log into the database as far as no reader is in the way.

    SQLite begins a log anew only when a writer finds all of it moved, which may never be while
    writers follow one another closely: a long one is moved while they wait, for a moment.

    Returns the number of pages that are still in the log alone. One process calls this and no
    other (see `engine`).
    """
    async with outside_transaction(engine) as connection:
        in_log, moved = await moved_by(connection, "PASSIVE")
        if in_log > LONG_LOG:
            await connection.execute(text(f"PRAGMA busy_timeout = {HELD_UP_MS}"))
            try:
                in_log, moved = await moved_by(connection, "RESTART")
            finally:  # the connection goes back to those who have more patience
                await connection.execute(text(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}"))
    return in_log - moved


async def moved_by(connection: AsyncConnection, mode: str) -> tuple[int, int]:
    """The pages in the log, and how many of them are in the database."""
    _, in_log, moved = (await connection.execute(text(f"PRAGMA wal_checkpoint({mode})"))).one()
    return int(in_log), int(moved)

"""Care of the database while the service runs; the supervisor alone calls it."""

from sqlalchemy import text

from captiond.store.engine import Engine, outside_transaction


async def checkpoint(engine: Engine) -> int:
    """Move the write-ahead log into the database as far as no reader is in the way.

    Returns the number of pages that are still in the log alone. One process calls this and no
    other (see `engine`).
    """
    async with outside_transaction(engine) as connection:
        _, in_log, moved = (await connection.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))).one()
    return int(in_log) - int(moved)

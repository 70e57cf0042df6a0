"""Maintenance of the database while the service runs. Only the supervisor calls it."""

from captiond.store.engine import Engine, outside_transaction


async def checkpoint(engine: Engine) -> int:
    """Copy the write-ahead log into the database file, as far as readers permit.

    Returns the number of pages that only the log holds. Only one process may call this.

    Raises:
        StoreError: The log cannot be copied now; nothing is lost.
    """
    async with outside_transaction(engine) as connection:
        return await engine.database.checkpoint(connection)

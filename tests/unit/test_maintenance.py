"""A checkpoint returns its connection to the pool with the usual settings."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.store import sqlite_file
from captiond.store.engine import Engine, outside_transaction
from captiond.store.maintenance import checkpoint
from captiond.store.sqlite_file import BUSY_SECONDS

pytestmark = pytest.mark.anyio


async def test_a_checkpoint_that_fails_resets_the_busy_timeout(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_to_restart(connection: AsyncConnection, mode: str) -> tuple[int, int]:
        if mode == "RESTART":
            raise OSError("the disk fails")
        return await copy_log(connection, mode)

    copy_log = sqlite_file.copy_log
    monkeypatch.setattr(sqlite_file, "LONG_LOG", -1)
    monkeypatch.setattr(sqlite_file, "copy_log", fail_to_restart)
    with pytest.raises(OSError, match="the disk fails"):
        await checkpoint(store)
    async with outside_transaction(store) as connection:
        waits = (await connection.execute(text("PRAGMA busy_timeout"))).scalar_one()
    assert waits == 1000 * BUSY_SECONDS

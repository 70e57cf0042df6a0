"""The checkpoint's own connection goes back as it came."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.store import maintenance
from captiond.store.maintenance import checkpoint
from captiond.store.sqlite import BUSY_SECONDS, Engine, outside_transaction

pytestmark = pytest.mark.anyio


async def test_a_checkpoint_that_fails_leaves_the_others_patience_as_before(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_to_restart(connection: AsyncConnection, mode: str) -> tuple[int, int]:
        if mode == "RESTART":
            raise OSError("the disk fails")
        return await moved_by(connection, mode)

    moved_by = maintenance.moved_by
    monkeypatch.setattr(maintenance, "LONG_LOG", -1)
    monkeypatch.setattr(maintenance, "moved_by", fail_to_restart)
    with pytest.raises(OSError, match="the disk fails"):
        await checkpoint(store)
    async with outside_transaction(store) as connection:
        waits = (await connection.execute(text("PRAGMA busy_timeout"))).scalar_one()
    assert waits == 1000 * BUSY_SECONDS

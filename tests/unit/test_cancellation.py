"""What a cancelled task has borrowed is given back, whichever of its waits is cancelled."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from sqlalchemy import QueuePool, text
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.databaseurl import DatabaseAddress
from captiond.store.engine import Engine, make_engine, reading, writing
from tests.cancellation import UNDISTURBED, Cancellation, cancellations, interrupted

pytestmark = pytest.mark.anyio
Block = Callable[[Engine], AbstractAsyncContextManager[AsyncConnection]]


@pytest.mark.parametrize("block", [writing, reading])
@pytest.mark.parametrize("connected", [False, True])
async def test_a_cancelled_transaction_gives_its_connection_back(
    store_address: DatabaseAddress, block: Block, connected: bool
) -> None:
    """A connection that is being opened is closed as well, however often that is cancelled."""

    async def transaction(engine: Engine) -> None:
        async with block(engine) as connection:
            await connection.execute(text("SELECT 1"))

    async def cancel(cancellation: Cancellation) -> int:
        engine = make_engine(store_address)
        if connected:
            await transaction(engine)
        waits = await interrupted(transaction(engine), cancellation)
        async with writing(engine):
            pass
        pool = engine.sql.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedin() == 1, cancellation
        await engine.dispose()
        return waits

    for cancellation in cancellations(await cancel(UNDISTURBED)):
        await cancel(cancellation)

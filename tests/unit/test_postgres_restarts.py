"""PostgreSQL restarts, and connections that are lost."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy import text

from captiond.errors import StoreUncertain
from captiond.store import claims, consistency, queueview, tasks
from captiond.store.engine import Engine, make_engine, reading, writing
from captiond.store.migrate import prepare_database
from captiond.store.postgres import Driver
from tests.patience import PATIENCE
from tests.postgres import PostgresServer, postgres_server
from tests.unit.claiming import claim, finish, task

pytestmark = [pytest.mark.anyio, pytest.mark.only_on("postgresql")]


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    with postgres_server() as server:
        yield server


@pytest.fixture
async def own_store(own_server: PostgresServer) -> AsyncIterator[Engine]:
    engine = make_engine(own_server.address(own_server.create_database()))
    await prepare_database(engine)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
async def test_a_restart_of_the_server_fails_no_transaction(
    own_store: Engine, own_server: PostgresServer, number: signal.Signals
) -> None:
    await tasks.create_task(own_store, task("t", 4))
    first = await claim(own_store, 2)
    restarting = asyncio.create_task(asyncio.to_thread(own_server.restart, number))
    waiting = asyncio.create_task(finish(own_store, first))
    await restarting
    assert await waiting == {each.image_id for each in first}
    assert await finish(own_store, await claim(own_store, 2))
    assert await consistency.contradictions(own_store) == []


async def test_old_connections_are_replaced_before_they_are_used(
    own_store: Engine, own_server: PostgresServer
) -> None:
    async with reading(own_store), reading(own_store):
        pass  # two connections are in the pool now
    await asyncio.to_thread(own_server.restart)
    for _ in range(3):
        async with writing(own_store) as connection:  # which nothing repeats
            await connection.execute(text("DELETE FROM nodes"))


async def test_a_transaction_is_repeated_when_its_connection_is_lost(store: Engine) -> None:
    await tasks.create_task(store, task("t", 2))
    some = await claim(store, 2)
    async with store.sql.connect() as connection, connection.begin():
        await connection.execute(text("SELECT 1 FROM tasks FOR UPDATE"))
        finishing = asyncio.create_task(finish(store, some))
        kill = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        async with asyncio.timeout(PATIENCE):
            while not (await connection.execute(kill)).scalar_one():
                await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
    assert await finishing == {each.image_id for each in some}


async def test_a_task_whose_commit_has_no_answer_is_accepted_once(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit reaches the server, and the connection is lost before its answer."""
    committed = psycopg.AsyncConnection.commit
    losses = 0

    async def commit(self: Driver) -> None:
        nonlocal losses
        await committed(self)
        if losses:
            losses -= 1
            await self.close()
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(psycopg.AsyncConnection, "commit", commit)
    losses = 1
    assert await tasks.create_tasks(store, [task("t", 2), task("k", 1, key="k")]) == ["t", "k"]
    assert losses == 0
    assert (await queueview.backlog(store)).images == 3
    losses = 2
    with pytest.raises(StoreUncertain):
        await tasks.create_tasks(store, [task("u", 3)])
    assert (await queueview.backlog(store)).images == 6
    losses = 1
    with pytest.raises(StoreUncertain):
        await claim(store, 6)
    assert await claims.disown(store, owner="node/m", known=[]) == 6
    assert len(await claim(store, 9)) == 6
    assert await consistency.contradictions(store) == []

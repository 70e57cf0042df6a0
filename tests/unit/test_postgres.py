"""What is special about PostgreSQL: its errors, lost connections, restarts, and locks of rows."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import errors as driver_errors
from sqlalchemy import exc, text

from captiond.databaseurl import DatabaseAddress
from captiond.errors import (
    DatabaseUnusable,
    NoSpace,
    StartupError,
    StorageFailed,
    StoreBusy,
    StoreConflict,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreRefused,
    StoreUncertain,
    StoreUnreachable,
)
from captiond.jobs import Captioned, NewImage, NewTask, SpooledImage
from captiond.store import backend, claims, consistency, leases, queueview, tasks
from captiond.store.backend import Phase
from captiond.store.engine import Engine, make_engine, outside_transaction, reading, writing
from captiond.store.migrate import check_undamaged, prepare_database
from captiond.store.patience import repeated
from captiond.store.postgres import Driver
from captiond.store.postgres_errors import CLASSES, STATES, as_store_errors
from tests.patience import PATIENCE
from tests.postgres import PostgresServer, installed, postgres_server

pytestmark = [pytest.mark.anyio, pytest.mark.only_on("postgresql")]
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
ALL_STATES: dict[str, type[psycopg.Error]] = {
    state: each
    for each in vars(driver_errors).values()
    if isinstance(each, type)
    and issubclass(each, psycopg.Error)
    and (state := each.sqlstate) is not None
    and isinstance(state, str)
}
UNRAISED = {"00", "01", "10"}  # classes without an error in the driver
MEANT = {
    "08006": StoreConflict,
    "22021": StoreRefused,
    "23505": StoreRefused,
    "25006": StoreReadOnly,
    "25P03": StoreConflict,
    "28P01": StorageFailed,
    "3D000": StorageFailed,
    "40001": StoreConflict,
    "40P01": StoreConflict,
    "42501": StorageFailed,
    "42P01": StoreRefused,
    "53100": NoSpace,
    "53200": StorageFailed,
    "53300": StoreUnreachable,
    "55P03": StoreBusy,
    "57014": StoreBusy,
    "57P01": StoreConflict,
    "57P02": StoreConflict,
    "57P03": StoreUnreachable,
    "58030": StorageFailed,
    "XX001": StoreDamaged,
    "XX002": StoreDamaged,
}


def task(task_id: str, count: int, *, key: str | None = None) -> NewTask:
    images = tuple(NewImage(f"{n}.png", SpooledImage("s", 0, 9, "sha")) for n in range(count))
    return NewTask(task_id, f"spool-{task_id}", images, 1.0, key, "digest" if key else None)


async def claim(engine: Engine, number: int, owner: str = "node/m") -> list[claims.Claim]:
    return (await claims.claim(engine, number, owner=owner, now=2.0)).claims


async def finish(engine: Engine, claimed: list[claims.Claim]) -> set[int]:
    outcomes = [claims.ImageOutcome(each.image_id, each.attempt, CAPTION) for each in claimed]
    return set(await claims.finish(engine, outcomes, now=3.0))


# ---------------------------------------------------------------- errors


def raised_for(error: BaseException, phase: Phase) -> type[StoreError]:
    with pytest.raises(StoreError) as raised, as_store_errors(phase):
        raise exc.DBAPIError.instance("SELECT 1", {}, error, psycopg.Error)
    return type(raised.value)


@pytest.mark.parametrize("state", sorted(ALL_STATES))
def test_every_sqlstate_is_mapped_on_purpose(state: str) -> None:
    assert state[:2] in CLASSES
    kind = raised_for(ALL_STATES[state]("what the server says"), Phase())
    assert kind is (STATES.get(state) or CLASSES[state[:2]])[0]
    assert kind is MEANT.get(state, kind)


def test_no_class_is_made_up_and_no_state_is_forgotten() -> None:
    assert {state[:2] for state in ALL_STATES} >= set(CLASSES) - UNRAISED
    assert set(MEANT) | set(STATES) <= set(ALL_STATES)


@pytest.mark.parametrize(
    ("error", "kind", "in_commit"),
    [
        (psycopg.OperationalError("server closed the connection"), StoreConflict, StoreUncertain),
        (driver_errors.AdminShutdown("terminated"), StoreConflict, StoreUncertain),
        (driver_errors.SerializationFailure("conflict"), StoreConflict, StoreConflict),
        (driver_errors.DiskFull("no space"), NoSpace, NoSpace),
        (psycopg.DataError("cannot contain NUL"), StoreRefused, StoreRefused),
    ],
)
def test_a_connection_that_is_lost_in_a_commit_leaves_it_open(
    error: psycopg.Error, kind: type[StoreError], in_commit: type[StoreError]
) -> None:
    assert raised_for(error, Phase()) is kind
    assert raised_for(error, Phase(commits=True)) is in_commit


# ---------------------------------------------------------------- settings and damage


async def test_a_session_has_its_settings(store: Engine) -> None:
    async with writing(store) as connection:
        for name, value in {
            "statement_timeout": "1min",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "30s",
            "transaction_isolation": "read committed",
            "jit": "off",
        }.items():
            assert (await connection.execute(text(f"SHOW {name}"))).scalar_one() == value
    async with reading(store) as connection:
        level = text("SHOW transaction_isolation")
        assert (await connection.execute(level)).scalar_one() == "repeatable read"
        with pytest.raises(exc.DBAPIError, match="read-only transaction"):
            await connection.execute(text("DELETE FROM tasks"))


async def test_a_queue_is_cared_for(store: Engine) -> None:
    query = text("SELECT reloptions FROM pg_class WHERE relname = 'images'")
    async with reading(store) as connection:
        options = (await connection.execute(query)).scalar_one()
    assert "autovacuum_vacuum_scale_factor=0.02" in options
    assert "fillfactor=90" in options


async def test_a_server_that_cannot_be_reached_says_so(store_address: DatabaseAddress) -> None:
    lost = replace(
        store_address, url="postgresql+psycopg://a:hunter2@/x?host=/nowhere", connect_seconds=0.2
    )
    engine = make_engine(lost)
    with pytest.raises(StoreUnreachable) as raised:
        await prepare_database(engine)
    await engine.dispose()
    message = str(raised.value)
    assert message.startswith("postgresql+psycopg://a:***@/x?host=/nowhere: ")
    assert "check that the server runs" in message
    assert "hunter2" not in message


async def test_a_database_that_does_not_exist_is_not_waited_for(postgres: PostgresServer) -> None:
    engine = make_engine(replace(postgres.address("missing"), connect_seconds=3600.0))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StoreUnreachable, match='database "missing" does not exist'):
            await prepare_database(engine)
    await engine.dispose()


async def test_a_database_in_another_encoding_is_refused(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    engine = make_engine(postgres.address("latin"))
    with pytest.raises(DatabaseUnusable, match="its encoding is LATIN1"):
        await check_undamaged(engine)
    await engine.dispose()
    postgres.drop_database("latin")


def test_the_driver_that_is_missing_is_named(
    store_address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StartupError, match=r"pip install 'captiond\[postgres\]'"):
        backend.database_at(store_address)


async def test_several_starts_at_once_make_the_tables_once(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    engines = [make_engine(postgres.address(name)) for _ in range(4)]
    await asyncio.gather(*(prepare_database(engine) for engine in engines))
    assert await consistency.contradictions(engines[0]) == []
    for engine in engines:
        await engine.dispose()
    postgres.drop_database(name)


async def test_a_damaged_index_is_found(store: Engine, postgres: PostgresServer) -> None:
    await tasks.create_task(store, task("t", 3))
    assert await consistency.damage(store) == []
    async with writing(store) as connection:
        await connection.execute(text("CREATE EXTENSION amcheck"))
    assert await consistency.damage(store) == []
    async with writing(store) as connection:  # the catalog says that it is unique, and it is not
        query = text("SELECT pg_relation_filepath('ix_images_task_id_id')")
        path = (await connection.execute(query)).scalar_one()
        await connection.execute(text("CHECKPOINT"))
    await store.dispose()
    file = postgres.data / path
    content = bytearray(file.read_bytes())
    content[8192 + 24 : 8192 + 8192] = bytes(8192 - 24)
    postgres.stop()
    file.write_bytes(content)
    postgres.start()
    (problem, *_) = await consistency.damage(store)
    assert problem.startswith("ix_images_task_id_id: ")


async def test_a_file_name_may_have_any_character(store: Engine) -> None:
    names = ["a\0b.png", "\ue000", "\ue0000", "\ue0001\0", "ü%s%(x)s:x.png"]
    images = tuple(NewImage(name, SpooledImage("s", 0, 9, "sha")) for name in names)
    await tasks.create_task(store, NewTask("t", "s", images, 1.0))
    view = await tasks.read_task(store, "t")
    assert view is not None
    assert [image.filename for image in view.images] == names
    assert await tasks.owner_of(store, "t\0") is None


@pytest.mark.parametrize("server", installed())
async def test_each_server_on_this_machine_can_be_used(server: str) -> None:
    """The package has the newest version, and Debian may have an older one."""
    with postgres_server(server=installed()[server]) as postgres:
        engine = make_engine(postgres.address(postgres.create_database()))
        await prepare_database(engine)
        await tasks.create_task(engine, task("t", 40, key="k"))
        assert len(await finish(engine, await claim(engine, 32))) == 32
        await tasks.create_task(engine, task("u", 2))
        await tasks.cancel(engine, "u", now=4.0)
        await claim(engine, 5)
        assert await leases.release(engine, "node") == 5
        assert len(await finish(engine, await claim(engine, 99))) == 8
        assert await consistency.contradictions(engine) == []
        await engine.dispose()


# ---------------------------------------------------------------- side by side


async def test_claims_side_by_side_take_each_image_once_and_keep_the_turns(store: Engine) -> None:
    for number in range(30):
        await tasks.create_task(store, task(f"t{number}", 10))
    claimed: list[int] = []

    async def work(owner: str) -> None:
        while some := await claim(store, 7, owner):
            claimed.extend(each.image_id for each in some)
            await finish(store, some)

    async with asyncio.timeout(PATIENCE):
        while len(claimed) < 300:
            await asyncio.gather(*(work(f"node{number}/m") for number in range(5)))
    assert sorted(claimed) == sorted(set(claimed))
    assert await consistency.contradictions(store) == []
    async with reading(store) as connection:
        query = text("SELECT count(*) FROM images WHERE status = 'COMPLETED'")
        assert (await connection.execute(query)).scalar_one() == 300
        waiting = text("SELECT count(*) FROM turns WHERE waits")
        assert (await connection.execute(waiting)).scalar_one() == 0


async def test_images_that_wait_again_during_a_claim_keep_a_turn(store: Engine) -> None:
    """A claim that takes the last image ends the turn, and a requeue at that moment begins one."""
    for _ in range(20):
        await tasks.create_task(store, task("t", 2))
        await claim(store, 1, "dead/m")
        await asyncio.gather(claims.requeue(store, owner="dead/m", now=3.0), claim(store, 1))
        assert await consistency.contradictions(store) == []
        async with writing(store) as connection:
            await connection.execute(text("DELETE FROM tasks"))
            await connection.execute(text("DELETE FROM turns"))


async def test_results_have_revisions_in_the_order_of_their_commits(store: Engine) -> None:
    await tasks.create_task(store, task("t", 60))
    some = await claim(store, 60)
    parts = [some[first : first + 6] for first in range(0, 60, 6)]
    await asyncio.gather(*(finish(store, part) for part in parts))
    async with reading(store) as connection:
        query = text("SELECT count(DISTINCT revision), count(*) FROM images GROUP BY task_id")
        assert tuple((await connection.execute(query)).one()) == (10, 60)


async def test_cancels_claims_and_results_side_by_side_leave_no_contradiction(
    store: Engine,
) -> None:
    for number in range(12):
        await tasks.create_task(store, task(f"t{number}", 8))

    async def work() -> None:
        while some := await claim(store, 5):
            await finish(store, some)

    async def cancel() -> None:
        for number in range(0, 12, 2):
            await tasks.cancel(store, f"t{number}", now=4.0)

    await asyncio.gather(work(), work(), cancel())
    await work()
    assert await consistency.contradictions(store) == []


async def test_the_same_key_in_two_processes_is_one_task(store_address: DatabaseAddress) -> None:
    engines = [make_engine(store_address) for _ in range(4)]
    ids = await asyncio.gather(
        *(
            tasks.create_task(engine, task(f"t{number}", 2, key="k"))
            for number, engine in enumerate(engines)
        )
    )
    assert len(set(ids)) == 1
    assert (await queueview.backlog(engines[0])).images == 2
    for engine in engines:
        await engine.dispose()


async def test_a_deadlock_is_repeated(store: Engine) -> None:
    both_have_one, tries = asyncio.Barrier(2), list[str]()

    @repeated
    async def lock(first: str, second: str) -> None:
        tries.append(first)
        async with writing(store) as connection:
            await leases.hold(connection, first)
            if len(tries) <= 2:
                await both_have_one.wait()
            await leases.hold(connection, second)

    for node in ("a", "b"):
        await leases.renew(store, node)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(lock("a", "b"), lock("b", "a"))
    assert len(tries) == 3


# ---------------------------------------------------------------- large queues


async def rows_read(store: Engine, work: Awaitable[object], server: PostgresServer) -> int:
    """Return how many rows and entries of indexes the server reads during some work."""
    query = text(
        "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables) "
        "+ (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)"
    )

    async def so_far() -> int:
        async with outside_transaction(store) as connection:
            await connection.execute(text("SELECT pg_stat_force_next_flush()"))
        async with outside_transaction(store) as connection:
            await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
            return int((await connection.execute(query)).scalar_one())

    before = await so_far()
    await work
    return await so_far() - before


async def test_a_claim_and_its_results_read_few_rows_however_many_wait(
    store_address: DatabaseAddress, postgres: PostgresServer
) -> None:
    store = make_engine(replace(store_address, connections=1))  # its figures are one backend's
    await tasks.create_task(store, task("large", 10_000))
    await tasks.create_tasks(store, [task(f"small{number}", 1) for number in range(10_000)])
    async with outside_transaction(store) as connection:
        await connection.execute(text("ANALYZE"))
    some: list[claims.Claim] = []

    async def take() -> None:
        some.extend(await claim(store, 32))

    for _ in range(8):  # a plan for all values is made after five
        some.clear()
        assert await rows_read(store, take(), postgres) < 3000
        assert await rows_read(store, finish(store, some), postgres) < 3000
    assert await rows_read(store, tasks.cancel(store, "small9999", now=4.0), postgres) < 3000
    assert await rows_read(store, leases.renew(store, "node"), postgres) < 3000
    await store.dispose()


# ---------------------------------------------------------------- restarts


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


# ---------------------------------------------------------------- wake-ups


async def test_a_process_is_woken_by_another_one(store_address: DatabaseAddress) -> None:
    here, there = make_engine(store_address), make_engine(store_address)
    wakeups = here.wakeups()
    async with asyncio.timeout(PATIENCE):
        await anext(wakeups)  # of the connection itself
        following = asyncio.ensure_future(anext(wakeups))
        await tasks.create_task(there, task("t", 1))
        await following
        following = asyncio.ensure_future(anext(wakeups))
        await claim(there, 1, "node/m")
        await claims.requeue(there, owner="node/m", now=3.0)
        await following
        following = asyncio.ensure_future(anext(wakeups))
        kill = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        async with outside_transaction(there) as connection:
            await connection.execute(kill)
        await following  # it listens again
    await wakeups.aclose()  # type: ignore[attr-defined]
    for engine in (here, there):
        await engine.dispose()

"""What is special about PostgreSQL: its settings, its names, and its damage."""

import asyncio
import sys
from dataclasses import replace

import pytest
from sqlalchemy import exc, text

from captiond.databaseurl import DatabaseAddress
from captiond.errors import DatabaseUnusable, StartupError, StoreUnreachable
from captiond.jobs import NewImage, NewTask, SpooledImage
from captiond.store import backend, consistency, leases, tasks
from captiond.store.engine import Engine, make_engine, reading, writing
from captiond.store.migrate import check_undamaged, prepare_database
from tests.patience import PATIENCE
from tests.postgres import PostgresServer, installed, postgres_server
from tests.unit.claiming import claim, finish, task

pytestmark = [pytest.mark.anyio, pytest.mark.only_on("postgresql")]


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

"""Moving between databases: nothing is lost, and whatever interrupts it, it is continued."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from captiond.databaseurl import DatabaseAddress
from captiond.errors import CopyFailed, DatabaseUnusable
from captiond.jobs import Captioned, NewImage, NewTask, Options, Refused, SpooledImage
from captiond.keys import Key, Limits, Scope
from captiond.store import captions, claims, clocks, consistency, leases, moving, shards, tasks
from captiond.store.credentials import add_key, stored_keys
from captiond.store.databaseid import database_id
from captiond.store.engine import Engine, make_engine, reading, writing
from captiond.store.migrate import migrations_folder, prepare_database
from captiond.store.tables import Table
from tests.postgres import PostgresServer

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cät\0", ("cat",), "m", 4, 3, score=-0.5)
NO_IMAGE = Refused("not an image", "not_an_image")


def quiet(_table: str, _done: int, _rows: int) -> None:
    pass


@pytest.fixture
async def source(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Engine]:
    engine = make_engine(Path(shutil.copy(migrated_file, tmp_path / "source.db")))
    yield engine
    await engine.dispose()


@pytest.fixture
async def target(postgres: PostgresServer) -> AsyncIterator[Engine]:
    name = postgres.create_database()
    engine = make_engine(postgres.address(name))
    yield engine
    await engine.dispose()
    postgres.drop_database(name)


async def fill(engine: Engine, number: int = 5) -> None:
    """Add rows to every table, with all that a row can be."""
    file = SpooledImage("file", 2**33, 9, "sha")
    images = (
        NewImage("a\0b \ue000.png", file),
        NewImage("no.png", None, NO_IMAGE),
        *[NewImage(f"{n}.png", file) for n in range(number)],
    )
    await tasks.create_task(
        engine,
        NewTask(
            "finished", "file", images, 1.0, "key", "digest", callback_url="http://a.example.com/"
        ),
    )
    claimed = (await claims.claim(engine, number + 1, owner="node/m", now=2.0)).claims
    outcomes = [claims.ImageOutcome(each.image_id, each.attempt, CAPTION) for each in claimed]
    await claims.finish(engine, outcomes, now=3.0)
    options = Options(language="de\0")
    await tasks.create_task(engine, NewTask("waits", "file", images, 4.0, options=options))
    await claims.claim(engine, 2, owner="node/m", now=5.0)
    await captions.remember(engine, {"k1": CAPTION, "k2": CAPTION}, now=6.0)
    await clocks.set_reached(engine, {"retention": 7.5})
    await database_id(engine)
    limits = Limits(requests=3)
    new = shards.NewImport("i", ("/a",), "uri", "/out", "jsonl", 2, created_at=1.0)
    await shards.join_import(engine, new)
    await shards.begin_listing(engine, "i", "lister")
    await shards.add_shards(engine, "i", "lister", [("/a\udce9.png", "/b.png"), ("/c.png",)])
    await add_key(engine, Key("one", bytes(32), frozenset({Scope.READ}), limits=limits), now=8.0)
    async with writing(engine) as connection:  # its service has stopped
        await connection.execute(text("DELETE FROM nodes"))


async def rows_of(engine: Engine) -> dict[str, list[Any]]:
    """Return all rows, with the documents as they are stored."""
    found = {}
    async with reading(engine) as connection:
        for table in moving.copied_tables():
            columns = [moving.as_stored(column) for column in table.columns]
            rows = (await connection.execute(select(*columns))).all()
            found[table.name] = sorted(map(tuple, rows), key=lambda row: str(row[0]))
    return found


async def test_every_row_goes_there_and_back(
    source: Engine, target: Engine, tmp_path: Path
) -> None:
    await fill(source)
    before = await rows_of(source)
    assert all(before.values()), "every table has rows"
    assert set(before) | {"asks", "nodes"} == set(Table.metadata.tables)
    counts = await moving.copy_database(source, target, quiet)
    assert counts == {table: len(rows) for table, rows in before.items()}
    assert await rows_of(target) == before
    back = make_engine(tmp_path / "back.db")
    await moving.copy_database(target, back, quiet)
    assert await rows_of(back) == before
    for engine in (target, back):
        await prepare_database(engine)
        view = await tasks.read_task(engine, "finished")
        assert view is not None
        assert view.images[0].filename == "a\0b \ue000.png"
        assert view.images[0].outcome == CAPTION
        assert (await stored_keys(engine)).keys == (await stored_keys(source)).keys
        await goes_on(engine)
    await back.dispose()


async def goes_on(engine: Engine) -> None:
    """Use a copy as a service does: claims wait again, and new rows get new ids."""
    assert await leases.recover(engine, "new-home-1") == 2
    more = NewTask("more", "file", (NewImage("m.png", SpooledImage("file", 0, 9, "sha")),), 9.0)
    await tasks.create_task(engine, more)
    claimed = (await claims.claim(engine, 99, owner="new-home-1/m", now=10.0)).claims
    assert len(claimed) == 7
    outcomes = [claims.ImageOutcome(each.image_id, each.attempt, CAPTION) for each in claimed]
    assert len(await claims.finish(engine, outcomes, now=11.0)) == 7
    assert await consistency.contradictions(engine) == []


class Interrupted(Exception):
    """The user interrupts the copy."""


@pytest.mark.parametrize("table", ["tasks", "images", "captions"])
async def test_an_interrupted_copy_is_continued(
    source: Engine, target: Engine, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(moving, "ROWS", 2)
    await fill(source)

    def interrupt(name: str, done: int, _rows: int) -> None:
        if name == table and done >= 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        await moving.copy_database(source, target, interrupt)
    with pytest.raises(DatabaseUnusable, match="unfinished copy"):
        await prepare_database(target)
    again: dict[str, int] = {}

    def note_first(name: str, done: int, _rows: int) -> None:
        again.setdefault(name, done)

    await moving.copy_database(source, target, note_first)
    assert await rows_of(target) == await rows_of(source)
    assert again["images"] == (2 if table == "images" else 0), "what is there is not read again"
    await prepare_database(target)


async def test_a_target_with_rows_is_refused(source: Engine, target: Engine) -> None:
    await prepare_database(target)
    await clocks.set_reached(target, {"retention": 1.0})
    with pytest.raises(CopyFailed, match="its table clocks has rows already"):
        await moving.copy_database(source, target, quiet)


async def test_an_unfinished_copy_of_another_database_is_refused(
    source: Engine, target: Engine
) -> None:
    await prepare_database(target)
    await clocks.set_reached(target, {"copy of another": 0.0})
    with pytest.raises(CopyFailed, match="unfinished copy of another database"):
        await moving.copy_database(source, target, quiet)


async def test_a_database_in_use_is_refused(source: Engine, target: Engine) -> None:
    await prepare_database(target)
    async with writing(target) as connection:
        await leases.hold(connection, "host-home-1")
    for engines in ((source, target), (target, source)):
        with pytest.raises(CopyFailed, match="is used by the service host-home-1; stop it"):
            await moving.copy_database(*engines, quiet)


async def test_a_copy_that_differs_is_noticed(
    source: Engine, target: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that does not know of the copy writes to the source meanwhile."""
    await fill(source)
    compare = moving.compare

    async def late(*engines: Engine) -> dict[str, int]:
        async with writing(source) as connection:
            await connection.execute(text("UPDATE tasks SET open_images = 0 WHERE id = 'waits'"))
        return await compare(*engines)

    monkeypatch.setattr(moving, "compare", late)
    with pytest.raises(CopyFailed, match="its table tasks is not the same"):
        await moving.copy_database(source, target, quiet)
    with pytest.raises(DatabaseUnusable, match="unfinished copy"):
        await prepare_database(target)


async def test_tables_of_another_version_are_refused(source: Engine, target: Engine) -> None:
    async with writing(source) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0006'"))
    with pytest.raises(DatabaseUnusable, match="run captiond db upgrade"):
        await moving.copy_database(source, target, quiet)


def test_the_address_of_a_copy_does_not_depend_on_the_password() -> None:
    urls = [f"postgresql+psycopg://a:{word}@db/c" for word in ("one", "two")]
    addresses = {str(DatabaseAddress(None, url)) for url in urls}
    assert len(addresses) == 1
    assert migrations_folder().is_dir()

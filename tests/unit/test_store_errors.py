"""Every result code of SQLite has a StoreError, and a real read-only file tells what to do."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.callbacks import DeliveryStatus
from captiond.errors import (
    CaptiondError,
    NoSpace,
    StorageFailed,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreRefused,
)
from captiond.jobs import Captioned, NewImage, NewTask, SpooledImage
from captiond.store import captions, claims, deliveries, expiry, leases, sqlite, tasks
from captiond.store.deliveries import Attempt
from captiond.store.engine import Engine, looking_up, outside_transaction, reading, writing
from captiond.store.patience import until_stored
from captiond.store.sqlite_errors import ERRORS, as_store_errors
from captiond.store.sqlite_file import copy_log
from tests.patience import PATIENCE

pytestmark = pytest.mark.anyio
PRIMARY = range(1, 27)  # SQLITE_ERROR to SQLITE_NOTADB (sqlite.org/rescode.html)
FAILURES = {
    "PERM": StorageFailed,
    "BUSY": StoreBusy,
    "LOCKED": StoreBusy,
    "NOMEM": StorageFailed,
    "READONLY": StoreReadOnly,
    "READONLY_DBMOVED": StoreReadOnly,
    "INTERRUPT": StoreBusy,
    "IOERR": StorageFailed,
    "IOERR_FSYNC": StorageFailed,
    "CORRUPT": StoreDamaged,
    "FULL": NoSpace,
    "CANTOPEN": StorageFailed,
    "PROTOCOL": StoreBusy,
    "SCHEMA": StoreBusy,
    "TOOBIG": StoreRefused,
    "CONSTRAINT": StoreRefused,
    "CONSTRAINT_UNIQUE": StoreRefused,
    "NOTADB": StoreDamaged,
}


def raise_code(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> None:
    error = kind("what the driver says")
    error.sqlite_errorcode = code
    raise exc.DBAPIError.instance("SELECT 1", {}, error, sqlite3.Error)


@pytest.mark.parametrize("code", PRIMARY)
def test_every_primary_code_is_mapped_on_purpose(code: int) -> None:
    assert set(ERRORS) == set(PRIMARY)
    for kind in (sqlite3.OperationalError, sqlite3.DatabaseError, sqlite3.DataError):
        with pytest.raises(StoreError) as raised, as_store_errors():
            raise_code(code, kind)
        assert type(raised.value) is not StoreError


@pytest.mark.parametrize(("name", "kind"), FAILURES.items())
def test_a_code_has_its_error(name: str, kind: type[StoreError]) -> None:
    with pytest.raises(StoreError) as raised, as_store_errors():
        raise_code(getattr(sqlite3, f"SQLITE_{name}"))
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exc.TimeoutError("the pool is empty"), StoreBusy),
        (MemoryError(), StorageFailed),
        (sqlite3.ProgrammingError("closed"), StoreRefused),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "half of a surrogate pair"), StoreRefused),
    ],
)
def test_errors_without_a_code_have_one_too(error: Exception, kind: type[StoreError]) -> None:
    with pytest.raises(StoreError) as raised, as_store_errors():
        raise error
    assert type(raised.value) is kind


def test_an_error_that_may_pass_says_when_to_try_again() -> None:
    passing = (StoreBusy, NoSpace, StorageFailed, StoreReadOnly)
    assert all((kind.retry_after or 0) > 0 for kind in passing)
    final = (CaptiondError, StoreDamaged, StoreRefused)
    assert all(kind.retry_after is None for kind in final)


NEW_TASK = NewTask("t", "s", (NewImage("a.png", SpooledImage("s", 0, 9, "sha")),), 1.0)
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
TRIED = Attempt("msg", 1, 1.0, DeliveryStatus.DELIVERED, None, 204, None)
WRITES: dict[str, Callable[[Engine], Awaitable[object]]] = {
    "accept": lambda engine: tasks.create_task(engine, NEW_TASK),
    "claim": lambda engine: claims.claim(engine, 9, owner="node/m", now=2.0),
    "finish": lambda engine: claims.finish(engine, [claims.ImageOutcome(1, 1, CAPTION)], now=2.0),
    "requeue": lambda engine: claims.requeue(engine, owner="node/m", now=2.0),
    "recover": lambda engine: leases.recover(engine, "node"),
    "renew": lambda engine: leases.renew(engine, "node"),
    "requeue_expired": lambda engine: leases.requeue_expired(engine, "node"),
    "release": lambda engine: leases.release(engine, "node"),
    "remember": lambda engine: captions.remember(engine, {"key": CAPTION}, now=1.0),
    "record": lambda engine: deliveries.record(engine, [TRIED]),
    "give_up": lambda engine: deliveries.give_up(
        engine, begun_before=9.0, error="too old", trying=()
    ),
    "redeliver": lambda engine: deliveries.redeliver(engine, "t", now=2.0),
    "release_files": lambda engine: expiry.release_files(engine, before=9.0),
    "delete_captions": lambda engine: expiry.delete_oldest_captions(engine, 9),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_every_write_tells_of_a_file_that_has_become_read_only(
    store: Engine, write: Callable[[Engine], Awaitable[object]]
) -> None:
    async with outside_transaction(store) as connection:  # the pool's only one, and it stays
        await connection.execute(text("PRAGMA query_only = ON"))
    with pytest.raises(StoreReadOnly, match="mount the file system writable"):
        await write(store)
    async with outside_transaction(store) as connection:
        await connection.execute(text("PRAGMA query_only = OFF"))
    await write(store)


async def test_work_that_is_refused_every_time_is_not_repeated(store: Engine) -> None:
    async def duplicate() -> None:
        async with writing(store) as connection:
            for _ in range(2):
                query = text("INSERT INTO nodes (id, expires_at) VALUES ('a', 0)")
                await connection.execute(query)

    with pytest.raises(StoreRefused, match="UNIQUE"):
        await until_stored(duplicate)
    async with reading(store) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM nodes"))).scalar_one() == 0


USE_READ_ONLY = """
import asyncio, sys
from pathlib import Path
from captiond.errors import CaptiondError
from captiond.jobs import NewImage, NewTask, Refused
from captiond.store import queueview, tasks
from captiond.store.engine import make_engine
from captiond.store.migrate import prepare_database

async def main(path):
    engine = make_engine(path)
    refused = NewImage("x", None, Refused("no image", "not_an_image"))
    for action in (
        tasks.create_task(engine, NewTask("t", None, (refused,), 1.0)),
        prepare_database(engine),
    ):
        try:
            await action
        except CaptiondError as error:
            print(type(error).__name__, error)
    print((await queueview.backlog(engine)).images)
    await engine.dispose()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_read_only_file_tells_what_to_do(migrated_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "captiond.db"
    path.write_bytes(migrated_file.read_bytes())
    with closing(sqlite3.connect(path)) as connection:  # so that a start has to write
        connection.executescript("DROP TABLE nodes; UPDATE alembic_version SET version_num='0006'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.chmod(0o444)
    powerless = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    command = [*powerless, sys.executable, "-c", USE_READ_ONLY, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("StoreReadOnly the database cannot be written: the file or its ")
    assert lines[1].startswith(f"DatabaseUnusable {path}: the database cannot be written")
    assert lines[2] == "0", "reading works"


async def test_a_connection_from_a_read_only_time_is_replaced(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite opens a read-only file for reading, and keeps it so when the file can be written."""
    writable, denied = os.access, {"W": True}
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: not (denied["W"] and mode == os.W_OK) and writable(path, mode),
    )
    connections = set()
    for _ in range(2):
        async with reading(store) as connection:
            raw = await connection.get_raw_connection()
            connections.add(id(raw.driver_connection))
    assert len(connections) == 1, "it is kept as long as there is no better one"
    denied["W"] = False
    async with writing(store) as connection:
        raw = await connection.get_raw_connection()
        assert id(raw.driver_connection) not in connections


@pytest.mark.parametrize("block", [writing, reading, looking_up])
async def test_a_statement_that_is_cancelled_holds_no_lock(
    store: Engine,
    monkeypatch: pytest.MonkeyPatch,
    block: Callable[[Engine], AbstractAsyncContextManager[AsyncConnection]],
) -> None:
    """SQLite keeps the connection while anything refers to the statement, as a traceback does."""
    monkeypatch.setattr(sqlite, "PRAGMAS", ("PRAGMA busy_timeout = 100", *sqlite.PRAGMAS[1:]))
    running, go_on = threading.Event(), threading.Event()

    def wait() -> int:
        running.set()
        assert go_on.wait(PATIENCE)
        return 1

    async def work() -> None:
        async with block(store) as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.create_function("wait", 0, wait)
            await connection.execute(text("SELECT wait() FROM sqlite_schema"))

    working = asyncio.create_task(work())
    await asyncio.to_thread(running.wait)
    working.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await working
    await tasks.create_task(store, NEW_TASK)
    async with outside_transaction(store) as connection:
        in_log, copied = await copy_log(connection, "RESTART")
    assert in_log == copied
    assert cancelled.tb is not None, "the statement is still referred to"


async def test_closing_a_connection_ends_however_often_it_is_cancelled(store: Engine) -> None:
    """Otherwise the task that closes it never ends, and neither does the process.

    The statement is cancelled, then its connection while it closes, then the task that closes it.
    """
    running, go_on, close = threading.Event(), threading.Event(), threading.Event()
    drivers = list[Any]()

    def wait() -> None:
        running.set()
        assert go_on.wait(PATIENCE)

    async def work() -> None:
        async with reading(store) as connection:
            drivers.append((await connection.get_raw_connection()).driver_connection)
            await drivers[0].create_function("wait", 0, wait)
            await connection.execute(text("SELECT wait()"))

    working = asyncio.create_task(work())
    await asyncio.to_thread(running.wait)
    working.cancel()
    async with asyncio.timeout(PATIENCE):
        await until(lambda: drivers[0]._tx.qsize() > 0)  # to close the cursor
        drivers[0]._tx.put_nowait((None, lambda: close.wait(PATIENCE)))
        go_on.set()
        await until(lambda: bool(tasks_of("_terminate_graceful_close")))
        (closing,) = tasks_of("_terminate_graceful_close")
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        closing.cancel()
        close.set()
        await asyncio.wait([closing])


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it is another thread's
        await asyncio.sleep(0.001)


def tasks_of(name: str) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if name in repr(task.get_coro())]

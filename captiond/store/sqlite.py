"""SQLite, set up so that an acknowledged commit survives a power cut and no two claims collide.

WAL with synchronous=FULL. Writers begin with BEGIN IMMEDIATE: SQLAlchemy's own deferred
transactions let two claim the same rows. Only the supervisor checkpoints, because SQLite before
3.51.3 can corrupt a database when two connections checkpoint at once (sqlite.org/wal.html).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from captiond.errors import NoSpace, StorageFailed, StoreBusy

BUSY_SECONDS = 60  # a writer waits so long for another process's; each holds the lock for moments
PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 0",
)
PRIMARY_CODE = 0xFF  # of an extended result code (sqlite.org/rescode.html)
BEGIN = "captiond_begin"  # the execution option that says how a transaction begins


@dataclass(frozen=True, slots=True)
class Engine:
    """A database, as one process holds it: what the other rooms hand back, writing no SQL.

    The writers of a process queue for `turn`: SQLite's own lock is polled, which is neither fair
    nor quick among many.
    """

    sql: AsyncEngine
    turn: asyncio.Lock

    async def dispose(self) -> None:
        await self.sql.dispose()


def make_engine(database: Path) -> Engine:
    """An engine on a database file; nothing is opened before the first connection."""
    sql = create_async_engine(
        f"sqlite+aiosqlite:///{database}", pool_size=4, max_overflow=4, pool_timeout=BUSY_SECONDS
    )
    event.listen(sql.sync_engine, "connect", set_up_connection)
    event.listen(sql.sync_engine, "begin", begin)
    return Engine(sql, asyncio.Lock())


def set_up_connection(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # of sqlite3: every BEGIN is ours
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(BEGIN, "BEGIN IMMEDIATE")
    if statement:
        connection.exec_driver_sql(statement)


@asynccontextmanager
async def writing(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """A transaction that writes; durable once the block has been left.

    Raises:
        StoreError: it cannot be written now; nothing was.
    """
    with told_as_store_errors():
        async with engine.turn, engine.sql.begin() as connection:
            yield connection


@asynccontextmanager
async def reading(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """A transaction that reads one snapshot and never waits for a writer.

    Raises:
        StoreError: it cannot be read now.
    """
    with told_as_store_errors():
        async with engine.sql.connect() as connection:
            await connection.execution_options(**{BEGIN: "BEGIN"})
            async with connection.begin():
                yield connection


@asynccontextmanager
async def outside_transaction(engine: Engine) -> AsyncIterator[AsyncConnection]:
    """A connection for statements that SQLite runs only outside a transaction.

    Raises:
        StoreError: they cannot be run now.
    """
    with told_as_store_errors():
        async with engine.sql.connect() as connection:
            await connection.execution_options(**{BEGIN: ""})
            yield connection


@contextmanager
def told_as_store_errors() -> Iterator[None]:
    """Turn SQLite's complaints about the disk and the lock into errors of ours."""
    try:
        yield
    except OperationalError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & PRIMARY_CODE
        if code == sqlite3.SQLITE_FULL:
            raise NoSpace("no space left for the database; nothing was accepted") from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise StoreBusy("the database is busy; try again shortly") from error
        if code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}:
            raise StorageFailed(f"the database cannot be written: {error.orig}") from error
        raise

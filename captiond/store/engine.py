"""SQLite, set up so that an acknowledged commit survives a power cut and no two claims collide.

WAL with synchronous=FULL. Writers begin with BEGIN IMMEDIATE: SQLAlchemy's own deferred
transactions let two claim the same rows. Only the supervisor checkpoints, because SQLite before
3.51.3 can corrupt a database when two connections checkpoint at once (sqlite.org/wal.html).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

PRAGMAS = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 0",
)
Engine = AsyncEngine  # what the other rooms hold and hand back; they write no SQL
BEGIN = "captiond_begin"  # the execution option that says how a transaction begins


def make_engine(database: Path) -> AsyncEngine:
    """An engine on a database file; nothing is opened before the first connection."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}", pool_size=4, max_overflow=4)
    event.listen(engine.sync_engine, "connect", set_up_connection)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


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
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that reads one snapshot and never waits for a writer."""
    async with engine.connect() as connection:
        await connection.execution_options(**{BEGIN: "BEGIN"})
        async with connection.begin():
            yield connection


@asynccontextmanager
async def outside_transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for statements that SQLite runs only outside a transaction."""
    async with engine.connect() as connection:
        await connection.execution_options(**{BEGIN: ""})
        yield connection

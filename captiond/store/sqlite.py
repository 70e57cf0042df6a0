"""SQLite: connections, pragmas, and how a few statements and expressions are written.

Only `sqlite_errors`, `sqlite_file` and this module know SQLite; `postgres` is their counterpart.

An acknowledged commit survives a power cut: the journal is a write-ahead log with synchronous=FULL.
Transactions that write begin with BEGIN IMMEDIATE, because a deferred transaction that first reads
fails with SQLITE_BUSY_SNAPSHOT if another connection commits in between. Only one process runs
checkpoints, because SQLite before 3.51.3 can corrupt a database when two connections checkpoint at
once (sqlite.org/wal.html).
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Executable, Insert, Select, Table, event
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler

from captiond.databaseurl import DatabaseAddress
from captiond.store import sqlite_file
from captiond.store.backend import BEGIN, Phase, S
from captiond.store.expressions import DatabaseClock, EachItem, FieldOf, ItemOf, OneOf, Unindexed
from captiond.store.sqlite_errors import as_store_errors
from captiond.store.sqlite_file import BUSY_SECONDS

PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 0",
)

# ---------------------------------------------------------------- connections

READ_ONLY_FILE = "captiond_read_only_file"  # in the pool's notes on a connection
WRITE_STATEMENT = "BEGIN IMMEDIATE"


def connect_to(database: Path) -> AsyncEngine:
    """Return a pool of connections to a database file. No file is opened yet."""
    # In the text of a URL, ? and % of a path would have another meaning.
    url = URL.create("sqlite+aiosqlite", database=str(database))
    engine = create_async_engine(url, pool_size=4, max_overflow=4, pool_timeout=BUSY_SECONDS)
    path = str(database.absolute())

    def connected(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        set_up_connection(connection)
        if not is_writable(path):
            record.info[READ_ONLY_FILE] = path

    # SQLAlchemy's own statements on a new connection can be cancelled as well, so this comes first.
    # guard: thread-ends-once
    event.listen(engine.sync_engine, "connect", end_thread_once, insert=True)
    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begin)
    event.listen(engine.sync_engine, "checkout", replace_read_only)
    event.listen(engine.sync_engine, "handle_error", close_cursor)
    return engine


def set_up_connection(connection: DBAPIConnection) -> None:
    connection.isolation_level = None  # sqlite3 then begins no transaction of its own
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def end_thread_once(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Let the thread of a connection of aiosqlite be asked only once to end.

    `close` asks the thread to end and waits for its answer, but a thread that has ended does not
    answer. A `close` that is cancelled can ask a second time. Its process would then never end.
    """
    driver: Any = connection.driver_connection
    stop: Callable[[], asyncio.Future[object] | None] | None = driver.stop

    def stop_once() -> asyncio.Future[object] | None:
        nonlocal stop
        asked, stop = stop, None
        return asked() if asked else None

    driver.stop = stop_once


def begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(BEGIN, WRITE_STATEMENT)
    if statement:
        connection.exec_driver_sql(statement)


def replace_read_only(
    connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection
) -> None:
    """Have the pool replace a connection that cannot write, once the file can be written again.

    SQLite opens a file that it may not write for reading only, and the connection stays so even
    after the file system has been mounted writable again.

    Raises:
        DisconnectionError: the pool opens another connection.
    """
    # guard: read-only-heals
    if READ_ONLY_FILE in record.info and is_writable(record.info[READ_ONLY_FILE]):
        raise sqlalchemy_errors.DisconnectionError


def close_cursor(context: ExceptionContext) -> None:
    """Close the cursor of a statement that was cancelled, before its connection is closed.

    SQLite closes a connection only with its last statement. An open one may be in a traceback until
    the next garbage collection. Until then, nobody else could write, or the log would only grow.
    """
    statement = context.execution_context
    # guard: cancelled-statement
    if statement is not None and isinstance(context.original_exception, asyncio.CancelledError):
        with suppress(sqlite3.Error):
            statement.cursor.close()


def is_writable(database: str) -> bool:
    """Return whether this process may write to a database file."""
    return os.access(database, os.W_OK)


# ---------------------------------------------------------------- statements


@compiles(DatabaseClock, "sqlite")
def write_clock(_element: DatabaseClock, _compiler: SQLCompiler, **_options: object) -> str:
    # SQLite 3.40 has no unixepoch('subsec'); 2440587.5 is the Julian day of the Unix epoch.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(EachItem, "sqlite")
def write_each_item(element: EachItem, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(ItemOf, "sqlite")
def write_item(element: ItemOf, compiler: SQLCompiler, **options: Any) -> str:
    items, index = (compiler.process(each, **options) for each in element.clauses)
    return f"json_extract({items}, '$[{index}]')"


@compiles(FieldOf, "sqlite")
def write_field(element: FieldOf, compiler: SQLCompiler, **options: Any) -> str:
    document, name = (compiler.process(each, **options) for each in element.clauses)
    return f"CASE WHEN json_valid({document}) THEN json_extract({document}, '$.{name}') END"


@compiles(Unindexed, "sqlite")
def write_unindexed(element: Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"(+ {compiler.process(element.clauses, **options)})"


@compiles(OneOf, "sqlite")
def write_one_of(element: OneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN {values}"


class SqliteLanguage:
    """How SQLite writes statements."""

    def insert_or_keep(self, table: type[Any] | Table) -> Insert:
        return dialect.insert(table).on_conflict_do_nothing()

    def insert_or_update(
        self,
        table: type[Any],
        columns: Sequence[str],
        rows: Select[*tuple[Any, ...]],
        *,
        key: str,
        changes: Callable[[Any], Mapping[str, object]],
    ) -> Insert:
        new = dialect.insert(table).from_select(columns, rows)
        return new.on_conflict_do_update(index_elements=[key], set_=changes(new.excluded))

    def choose(self, *, sqlite: S, postgresql: S) -> S:
        return sqlite

    def sql_of(self, statement: Executable) -> str:
        return str(statement.compile(dialect=dialect.dialect(paramstyle="named")))  # type: ignore[attr-defined]


# ---------------------------------------------------------------- the database


class SqliteDatabase:
    """A database file. `captiond.store.backend.Database` describes the methods."""

    snapshot: Mapping[str, str] = {BEGIN: "BEGIN"}
    no_transaction: Mapping[str, str] = {BEGIN: ""}
    shared = False

    def __init__(self, address: DatabaseAddress) -> None:
        assert address.file is not None
        self.address = address
        self._file = address.file
        # The writers of a process queue for it. The database's own lock is polled, which is
        # neither fair nor quick with many waiters.
        self.turn: AbstractAsyncContextManager[object] = asyncio.Lock()

    def connect(self) -> AsyncEngine:
        return connect_to(self._file)

    def as_store_errors(self, phase: Phase) -> AbstractContextManager[None]:
        return as_store_errors()

    def version(self) -> object:
        return sqlite_file.version_of(self._file)

    async def lock_tables(self, connection: AsyncConnection) -> None:
        """Do nothing: a transaction that writes has the whole file to itself."""

    async def checkpoint(self, connection: AsyncConnection) -> int:
        return await sqlite_file.checkpoint(connection)

    async def quick_damage(self, connection: AsyncConnection) -> str | None:
        return await sqlite_file.quick_damage(connection)

    async def damage(self, connection: AsyncConnection, limit: int) -> list[str]:
        return await sqlite_file.damage(connection, limit)

    async def size(self, _: AsyncConnection) -> int:
        return sqlite_file.size_of(self._file)

    async def notify(self, _: AsyncConnection, texts: Sequence[str]) -> None:
        """Send nothing: nobody listens."""

    async def wakeups(self, _: AsyncEngine) -> AsyncIterator[str]:
        """Yield nothing: only processes of one service use the file, and these send messages."""
        never: tuple[str, ...] = ()
        for nothing in never:
            yield nothing

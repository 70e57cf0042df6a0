"""Everything that is specific to SQLite: connections, pragmas, result codes and a few expressions.

No other module of captiond imports a database driver or a dialect. Another database needs a module
with the same functions.

An acknowledged commit survives a power cut: the journal is a write-ahead log with synchronous=FULL.
Transactions that write begin with BEGIN IMMEDIATE, because a deferred transaction that first reads
fails with SQLITE_BUSY_SNAPSHOT if another connection commits in between. Only one process runs
checkpoints, because SQLite before 3.51.3 can corrupt a database when two connections checkpoint at
once (sqlite.org/wal.html).
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Float,
    Insert,
    Select,
    Subquery,
    Text,
    bindparam,
    case,
    event,
    func,
    select,
    text,
    type_coerce,
)
from sqlalchemy import (
    cast as sql_cast,
)
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.types import TypeEngine

from captiond.errors import (
    NoSpace,
    StorageFailed,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreRefused,
)

BUSY_SECONDS = 60  # a transaction waits this long for the lock; each holds it for milliseconds
PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 0",
)
Progress = Callable[[int, int], None]

# ---------------------------------------------------------------- connections

BEGIN = "captiond_begin"  # the execution option that names the first statement of a transaction
READ, NO_TRANSACTION = {BEGIN: "BEGIN"}, {BEGIN: ""}
READ_ONLY_FILE = "captiond_read_only_file"  # in the pool's notes on a connection
WRITE_STATEMENT = "BEGIN IMMEDIATE"


def connect_to(database: Path) -> AsyncEngine:
    """Return a pool of connections to a database file. No file is opened yet."""
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{database}", pool_size=4, max_overflow=4, pool_timeout=BUSY_SECONDS
    )
    event.listen(engine.sync_engine, "connect", set_up_connection)
    event.listen(engine.sync_engine, "begin", begin)
    event.listen(engine.sync_engine, "checkout", replace_read_only)
    return engine


def set_up_connection(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # sqlite3 then begins no transaction of its own
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.execute("PRAGMA database_list")
    database = str(cursor.fetchall()[0][2])
    cursor.close()
    if not is_writable(database):
        record.info[READ_ONLY_FILE] = database


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


def is_writable(database: str) -> bool:
    """Return whether this process may write to a database file."""
    return not database or os.access(database, os.W_OK)


# ---------------------------------------------------------------- errors

PRIMARY_CODE = (
    0xFF  # the bits of a result code that hold the primary code (sqlite.org/rescode.html)
)
BUSY = (StoreBusy, "the database is busy; try again shortly")
READ_ONLY = (
    StoreReadOnly,
    "the database cannot be written: the file or its file system is read-only for this process; "
    "mount the file system writable and check the owner of the data folder",
)
FAILED = (StorageFailed, "the database cannot be read or written")
DAMAGED = (
    StoreDamaged,
    "the database is damaged; stop captiond and restore a backup (captiond db check shows details)",
)
REFUSED = (StoreRefused, "the database refused a statement")
ERRORS: Mapping[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_ERROR: REFUSED,  # wrong SQL, or a table that is missing
    sqlite3.SQLITE_INTERNAL: DAMAGED,
    sqlite3.SQLITE_PERM: FAILED,
    sqlite3.SQLITE_ABORT: BUSY,  # a rollback on the same connection interrupted the statement
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_NOMEM: (StorageFailed, "there is no memory for the database"),
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: BUSY,
    sqlite3.SQLITE_IOERR: FAILED,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTFOUND: REFUSED,
    sqlite3.SQLITE_FULL: (NoSpace, "no space left for the database; nothing was accepted"),
    sqlite3.SQLITE_CANTOPEN: FAILED,
    sqlite3.SQLITE_PROTOCOL: BUSY,  # too many processes raced for the lock of the log
    sqlite3.SQLITE_EMPTY: REFUSED,
    sqlite3.SQLITE_SCHEMA: BUSY,  # another process changed the tables; the next try reads them
    sqlite3.SQLITE_TOOBIG: REFUSED,
    sqlite3.SQLITE_CONSTRAINT: REFUSED,
    sqlite3.SQLITE_MISMATCH: REFUSED,
    sqlite3.SQLITE_MISUSE: REFUSED,
    sqlite3.SQLITE_NOLFS: FAILED,  # the file system cannot hold a file of this size
    sqlite3.SQLITE_AUTH: REFUSED,
    sqlite3.SQLITE_FORMAT: DAMAGED,
    sqlite3.SQLITE_RANGE: REFUSED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}


@contextmanager
def as_store_errors() -> Iterator[None]:
    """Raise the driver's and the pool's errors as the StoreError that ERRORS names."""
    try:
        yield
    except sqlalchemy_errors.TimeoutError as error:
        raise StoreBusy("every connection to the database is in use; try again shortly") from error
    except sqlalchemy_errors.DBAPIError as error:
        raise store_error(error.orig) from error
    except sqlite3.Error as error:
        raise store_error(error) from error
    except MemoryError as error:  # the driver's exception for SQLITE_NOMEM
        raise StorageFailed(ERRORS[sqlite3.SQLITE_NOMEM][1]) from error


def store_error(error: BaseException | None) -> StoreError:
    """Return the StoreError that stands for an error of the driver.

    An error without a result code is the driver's own complaint about how it was called.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & PRIMARY_CODE
    kind, message = ERRORS.get(code, FAILED)
    return kind(message if kind in {NoSpace, StoreBusy} else f"{message}: {error}")


# ---------------------------------------------------------------- statements


def clock() -> ColumnElement[float]:
    """Return the database's clock as an expression, in Unix seconds."""
    # SQLite 3.40 has no unixepoch('subsec'); 2440587.5 is the Julian day of the Unix epoch.
    return type_coerce((func.julianday("now") - 2440587.5) * 86400.0, Float)


def insert_or_keep(table: type[Any]) -> Insert:
    """Return an INSERT that leaves a row alone if one with the same key exists."""
    return dialect.insert(table).on_conflict_do_nothing()


def insert_or_update(
    table: type[Any],
    columns: Sequence[str],
    rows: Select[Any],
    *,
    key: str,
    changes: Callable[[Any], Mapping[str, object]],
) -> Insert:
    """Return an INSERT of the rows of a query, which changes a row that has the same `key`.

    `changes` gets the columns of the row that cannot be inserted, and returns the new values.
    """
    new = dialect.insert(table).from_select(columns, rows)
    return new.on_conflict_do_update(index_elements=[key], set_=changes(new.excluded))


def json_field(document: InstrumentedAttribute[Any], name: str) -> ColumnElement[str | None]:
    """Return one text field of a JSON column as an expression; NULL if the JSON is damaged."""
    value = func.json_extract(document, f"$.{name}")
    return type_coerce(case((func.json_valid(document) == 1, value)), Text)


def unindexed(column: InstrumentedAttribute[str]) -> ColumnElement[str]:
    """Return a column as an expression that SQLite does not search by an index.

    Where two indexes fit, SQLite may choose the one with far more rows: it knows nothing about how
    the values are distributed (sqlite.org/optoverview.html, "Disqualifying WHERE Clause Terms").
    """
    return UnaryExpression(column.expression, operator=custom_op("+"), type_=column.type)


def rows_of(parameter: str, columns: Mapping[str, TypeEngine[Any]]) -> Subquery:
    """Return a table that consists of the rows in a parameter, for statements about many rows.

    The parameter is a JSON list of lists, as `json.dumps` makes it, with one value for each column.
    One statement then changes many rows and can return which of them it changed.
    """
    rows = func.json_each(bindparam(parameter, type_=Text)).table_valued("value", name="given")
    values = [
        sql_cast(func.json_extract(rows.c.value, f"$[{index}]"), kind).label(name)
        for index, (name, kind) in enumerate(columns.items())
    ]
    return select(*values).subquery(parameter)


@lru_cache(maxsize=64)
def sql_of(statement: Executable) -> str:
    return str(statement.compile(dialect=dialect.dialect(paramstyle="named")))  # type: ignore[attr-defined]


async def execute_many(
    connection: AsyncConnection, statement: Insert, rows: Sequence[Mapping[str, object]]
) -> None:
    """Run a statement once for each row, as one call of the driver.

    SQLAlchemy converts the parameters of each row, which takes ten times as long as the row's
    INSERT. Here nothing is converted: a value for a JSON column must be text. `statement` must be
    a constant, since its SQL is cached.
    """
    if rows:
        await connection.exec_driver_sql(sql_of(statement), rows)


# ---------------------------------------------------------------- care of the file

LONG_LOG = 16 * 1024  # pages; 64 MB
WRITERS_WAIT_MS = 200  # how long a RESTART checkpoint may block writers while it waits for readers


async def checkpoint(connection: AsyncConnection) -> int:
    """Copy the write-ahead log into the database file, as far as readers permit.

    SQLite reuses the log from its start only when a writer finds all of it copied. That may never
    happen while writers follow one another closely, so writers wait for a moment while a log of
    more than LONG_LOG pages is copied.

    Returns the number of pages that only the log holds. Only one process may call this.
    """
    in_log, copied = await copy_log(connection, "PASSIVE")
    if in_log > LONG_LOG:
        await set_busy_timeout(connection, WRITERS_WAIT_MS)
        try:
            in_log, copied = await copy_log(connection, "RESTART")
        finally:  # the pool gives this connection to others
            await set_busy_timeout(connection, BUSY_SECONDS * 1000)
    return in_log - copied


async def copy_log(connection: AsyncConnection, mode: str) -> tuple[int, int]:
    """Return the number of pages in the log, and how many of them the database file has."""
    _, in_log, copied = (await connection.execute(text(f"PRAGMA wal_checkpoint({mode})"))).one()
    return int(in_log), int(copied)


async def set_busy_timeout(connection: AsyncConnection, milliseconds: int) -> None:
    await connection.execute(text(f"PRAGMA busy_timeout = {milliseconds}"))


async def quick_damage(connection: AsyncConnection) -> str | None:
    """Return the first damage that SQLite's quick check finds, or None."""
    verdict = str((await connection.execute(text("PRAGMA quick_check(1)"))).scalar_one())
    return None if verdict == "ok" else verdict


async def damage(connection: AsyncConnection, limit: int) -> list[str]:
    """Return up to `limit` faults of the file and up to `limit` references to missing rows."""
    check = text(f"PRAGMA integrity_check({limit})")
    lines = [str(line) for line in (await connection.execute(check)).scalars()]
    lost = (await connection.execute(text("PRAGMA foreign_key_check"))).fetchmany(limit)
    references = [f"{row[0]} {row[1]}: its row of {row[2]} is gone" for row in lost]
    return [line for line in lines if line != "ok"] + references


PAGES = 1024  # copied between two calls of `progress`


def copy_file(database: Path, target: Path, progress: Progress) -> str | None:
    """Copy a database that may be in use into the empty file `target`, then check the copy.

    SQLite's online backup starts again whenever another process writes. In WAL mode a read
    transaction holds one snapshot, so the copy is made within one and always finishes. `progress`
    gets the number of copied pages and the number of all pages.

    Returns the damage that the check found, or None.

    Raises:
        StoreError: SQLite cannot read one file or write the other.
    """
    with as_store_errors():
        copy_pages(database, target, progress)
        with closing(sqlite3.connect(target)) as connection:
            verdict = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    return None if verdict == "ok" else verdict


def copy_pages(database: Path, target: Path, progress: Progress) -> None:
    source_uri = f"{database.resolve().as_uri()}?mode=rw"  # a plain name would create the file
    with (
        closing(sqlite3.connect(source_uri, uri=True, isolation_level=None)) as source,
        closing(sqlite3.connect(target, isolation_level=None)) as copied,
    ):
        source.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        source.execute("PRAGMA wal_autocheckpoint = 0")  # only the supervisor checkpoints
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        source.backup(
            copied, pages=PAGES, progress=lambda _, left, pages: progress(pages - left, pages)
        )
        # The copy must be one file. In WAL mode it would need two more.
        copied.execute("PRAGMA journal_mode = DELETE")

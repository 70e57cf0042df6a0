"""Care of a file of SQLite: checkpoints, checks and copies."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.store.backend import Progress
from captiond.store.sqlite_errors import as_store_errors

BUSY_SECONDS = 60  # a transaction waits this long for the lock; each holds it for milliseconds
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
        try:
            await set_busy_timeout(connection, WRITERS_WAIT_MS)
            in_log, copied = await copy_log(connection, "RESTART")
            await set_busy_timeout(connection, BUSY_SECONDS * 1000)
        except BaseException:
            # The pool gives it to others. After a cancellation, no statement would set it right.
            await connection.invalidate()
            raise
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


def size_of(database: Path) -> int:
    """Return the size of a database's file and of its write-ahead log."""
    return sum(status.st_size for status in statuses_of(database))


def version_of(database: Path) -> tuple[tuple[int, int, int], ...] | None:
    """Return what each transaction that writes changes, or None if that is not known.

    A transaction is appended to the write-ahead log, or overwrites its start.
    """
    statuses = statuses_of(database)
    if len(statuses) < len(files_of(database)):
        return None
    return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in statuses)


def statuses_of(database: Path) -> list[os.stat_result]:
    """Return the statuses of the files of a database that are there."""
    statuses = []
    for each in files_of(database):
        with suppress(OSError):
            statuses.append(each.stat())
    return statuses


def files_of(database: Path) -> tuple[Path, Path]:
    """Return a database's file and its write-ahead log."""
    return database, database.with_name(f"{database.name}-wal")

"""A copy of the database while it is written to: one consistent moment of it, checked.

SQLite's online backup begins again whenever another process writes; under steady writes it never
ends (measured: 0.2 s for 100 MB becomes for ever). In WAL mode a read transaction on the source
holds the moment still, so the copy is made within one.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from captiond.errors import BackupFailed

PAGES = 1024  # copied between two calls of `progress`
BUSY_SECONDS = 60
Progress = Callable[[int, int], None]


def copy(database: Path, target: Path, progress: Progress) -> None:
    """Copy `database` into the empty file `target`; `progress` is told pages done and pages in all.

    Raises:
        BackupFailed: SQLite cannot read the one, write the other, or finds the copy damaged.
    """
    try:
        copy_pages(database, target, progress)
        verdict = integrity(target)
    except sqlite3.Error as error:
        raise BackupFailed(f"{database}: cannot be copied: {error}") from error
    if verdict != "ok":
        raise BackupFailed(
            f"the copy is damaged, and so is {database}: {verdict}; captiond db check says more"
        )


def copy_pages(database: Path, target: Path, progress: Progress) -> None:
    source_uri = f"{database.resolve().as_uri()}?mode=rw"  # which makes no file, unlike a name
    with (
        closing(sqlite3.connect(source_uri, uri=True, isolation_level=None)) as source,
        closing(sqlite3.connect(target, isolation_level=None)) as copied,
    ):
        source.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        source.execute("PRAGMA wal_autocheckpoint = 0")  # see `engine`
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        source.backup(
            copied, pages=PAGES, progress=lambda _, left, pages: progress(pages - left, pages)
        )
        # One file, complete in itself: in WAL mode it would come with two more.
        copied.execute("PRAGMA journal_mode = DELETE")


def integrity(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])

"""A backup copies one snapshot in one pass, however busy the database is."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from captiond.cli.database_backup import LEFTOVER_SECONDS, back_up
from captiond.errors import BackupFailed
from captiond.store.backup import copy
from captiond.store.sqlite_file import PAGES
from tests.patience import PATIENCE

ROWS = 5000
FILLING = b"x" * 4000


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def test_a_backup_finishes_however_much_is_written_meanwhile(tmp_path: Path) -> None:
    path, target = tmp_path / "source.db", tmp_path / "copy.db"
    with closing(connect(path)) as source:
        source.execute("PRAGMA journal_mode = WAL")
        source.execute("CREATE TABLE pairs (n INTEGER, filling BLOB)")
        source.execute("BEGIN")
        source.executemany("INSERT INTO pairs VALUES (?, ?)", [(0, FILLING)] * ROWS)
        source.execute("COMMIT")
    over, written = threading.Event(), threading.Semaphore(0)

    def write() -> None:
        with closing(connect(path)) as writer:
            while not over.is_set():
                writer.execute("BEGIN IMMEDIATE")
                writer.executemany("INSERT INTO pairs VALUES (?, ?)", [(1, FILLING), (-1, FILLING)])
                writer.execute("COMMIT")
                writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
                written.release()

    steps = [0]

    def progress(done: int, pages: int) -> None:
        # Another transaction commits between any two steps.
        assert written.acquire(timeout=PATIENCE)
        assert steps[-1] < done <= pages, "the backup started again"
        steps.append(done)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        copy(path, target, progress)
    finally:
        over.set()
        thread.join()
    assert len(steps) > ROWS // PAGES
    with closing(sqlite3.connect(target)) as copied:
        pairs, total = copied.execute("SELECT count(*), sum(n) FROM pairs").fetchone()
    assert (pairs >= ROWS, pairs % 2, total) == (True, 0, 0)


def test_a_backup_takes_the_place_of_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    path, target = tmp_path / "source.db", tmp_path / "copy.db"
    with closing(connect(path)) as source:
        source.execute("CREATE TABLE pairs (n INTEGER)")
    target.symlink_to(target.name)  # to itself
    assert back_up(path, target, overwrite=False, progress=lambda *_: None) > 0
    assert not target.is_symlink()


def test_a_backup_into_a_folder_that_is_a_file_fails(tmp_path: Path) -> None:
    path, file = tmp_path / "source.db", tmp_path / "file"
    with closing(connect(path)) as source:
        source.execute("CREATE TABLE pairs (n INTEGER)")
    file.write_text("")
    with pytest.raises(BackupFailed, match="cannot be written"):
        back_up(path, file / "copy.db", overwrite=False, progress=lambda *_: None)


def test_two_backups_to_one_file_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    path, target = tmp_path / "source.db", tmp_path / "copy.db"
    with closing(connect(path)) as source:
        source.execute("CREATE TABLE pairs (n INTEGER, filling BLOB)")
        source.executemany("INSERT INTO pairs VALUES (?, ?)", [(0, FILLING)] * 2)
    sizes: list[int] = []

    def meanwhile(_done: int, _pages: int) -> None:
        if not sizes:
            sizes.append(back_up(path, target, overwrite=True, progress=lambda *_: None))

    sizes.append(back_up(path, target, overwrite=True, progress=meanwhile))
    assert sizes == [path.stat().st_size] * 2
    with closing(sqlite3.connect(target)) as copied:
        assert copied.execute("SELECT count(*) FROM pairs").fetchone() == (2,)
    assert {each.name for each in tmp_path.iterdir()} == {"source.db", "copy.db"}


def test_copies_of_killed_commands_are_removed_when_they_are_old(tmp_path: Path) -> None:
    path, target = tmp_path / "source.db", tmp_path / "copy.db"
    with closing(connect(path)) as source:
        source.execute("CREATE TABLE pairs (n INTEGER)")
    part, others = f"copy.db.{'0a' * 8}.part", {"copy.db.mine.part", "copy.db2.part"}
    removed = {"copy.db.part", part, f"{part}-journal"}
    young = f"copy.db.{'0b' * 8}.part"
    for name in {*others, *removed, young}:
        (tmp_path / name).touch()
        if name != young:
            os.utime(tmp_path / name, (0, time.time() - LEFTOVER_SECONDS - 1))
    back_up(path, target, overwrite=False, progress=lambda *_: None)
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"source.db", "copy.db", young, *others}

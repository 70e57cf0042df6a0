"""`captiond db backup`: copy the database to a file."""

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

from captiond.errors import BackupFailed
from captiond.spool import sync_folder
from captiond.store.backup import Progress, copy

LEFTOVER_SECONDS = 86_400.0  # a copy that nobody has written to for so long is not under way


def back_up(database: Path, target: Path, *, overwrite: bool, progress: Progress) -> int:
    """Copy `database` to `target`, and return the size in bytes.

    Two commands may copy to one target at once, so the name of an unfinished copy is unique.

    Raises:
        BackupFailed: there is no copy, and a file at `target` is unchanged.
    """
    try:
        check_target(database, target, overwrite=overwrite)
    except OSError as error:  # a folder above may not be entered
        raise BackupFailed(f"{target}: cannot be written: {error.strerror}") from error
    part = target.with_name(f"{target.name}.{secrets.token_hex(8)}.part")
    try:
        remove_leftovers(target, before=time.time() - LEFTOVER_SECONDS)
        part.touch(mode=0o600, exist_ok=False)
        copy(database, part, progress)
        size = part.stat().st_size
        give_name(part, target, overwrite=overwrite)
    except OSError as error:
        raise BackupFailed(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        discard(part)
    return size


def check_target(database: Path, target: Path, *, overwrite: bool) -> None:
    """Check that a copy may be written to `target`.

    Raises:
        BackupFailed: it may not.
    """
    if os.path.realpath(target) == os.path.realpath(database):
        raise BackupFailed(f"{target}: is the database itself; name another file")
    if target.is_dir():
        raise BackupFailed(f"{target}: is a folder; name a file")
    if target.exists() and not overwrite:
        raise BackupFailed(f"{target}: exists already; name another file, or use --force")


def give_name(part: Path, target: Path, *, overwrite: bool) -> None:
    """Write the copy to disk, then rename it to `target`, and write that to disk as well."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    check_target(part, target, overwrite=overwrite)  # a file may have appeared
    part.rename(target)
    sync_folder(target.resolve().parent)


def remove_leftovers(target: Path, *, before: float) -> None:
    """Remove unfinished copies that were last written before a Unix time, if that is possible.

    Commands that were killed have left them.
    """
    unfinished = re.compile(re.escape(target.name) + r"\.(?:[0-9a-f]{16}\.)?part(?:-journal)?")
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if unfinished.fullmatch(path.name) and path.lstat().st_mtime < before:
                path.unlink(missing_ok=True)


def discard(part: Path) -> None:
    """Remove an unfinished copy and its journal, if there are any and that is possible."""
    for path in (part, part.with_name(f"{part.name}-journal")):
        with contextlib.suppress(OSError):
            path.unlink()

"""`captiond db backup`: the copy gets its name once it is complete and on disk."""

import os
from pathlib import Path

from captiond.errors import BackupFailed
from captiond.spool import sync_folder
from captiond.store.backup import Progress, copy


def back_up(database: Path, target: Path, *, overwrite: bool, progress: Progress) -> int:
    """Copy `database` to `target`. Return the size of the copy in bytes.

    Raises:
        BackupFailed: There is no copy. A file that was at `target` before is unchanged.
    """
    check_target(database, target, overwrite=overwrite)
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o640, exist_ok=False)
        copy(database, part, progress)
        size = part.stat().st_size
        give_name(part, target, overwrite=overwrite)
    except OSError as error:
        raise BackupFailed(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        discard(part)
    return size


def check_target(database: Path, target: Path, *, overwrite: bool) -> None:
    if target.resolve() == database.resolve():
        raise BackupFailed(f"{target}: is the database itself; name another file")
    if target.is_dir():
        raise BackupFailed(f"{target}: is a folder; name a file")
    if target.exists() and not overwrite:
        raise BackupFailed(f"{target}: exists already; name another file, or use --force")


def give_name(part: Path, target: Path, *, overwrite: bool) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    check_target(part, target, overwrite=overwrite)  # it may have been created meanwhile
    part.rename(target)
    sync_folder(target.resolve().parent)


def discard(part: Path) -> None:
    for path in (part, part.with_name(f"{part.name}-journal")):
        path.unlink(missing_ok=True)

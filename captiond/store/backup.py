"""Makes a consistent, checked copy of a database that is in use."""

from pathlib import Path

from captiond.errors import BackupFailed, StoreError
from captiond.store.backend import Progress as Progress
from captiond.store.sqlite_file import copy_file


def copy(database: Path, target: Path, progress: Progress) -> None:
    """Copy `database` into the empty file `target`.

    `progress` gets the number of copied pages and the number of all pages.

    Raises:
        BackupFailed: The database cannot be read, the target cannot be written, or the copy is
            damaged.
    """
    try:
        damage = copy_file(database, target, progress)
    except StoreError as error:
        raise BackupFailed(f"{database}: cannot be copied: {error}") from error
    if damage is not None:
        raise BackupFailed(
            f"the copy is damaged, and so is {database}: {damage}; captiond db check says more"
        )

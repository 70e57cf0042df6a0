"""The lock of a data folder: at most one captiond serves it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from captiond.errors import AlreadyRunning, StartupError


def make_folders(*folders: Path) -> None:
    """Create the folders that the service writes to.

    Raises:
        StartupError: one of them cannot be created or written to.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(
                f"{folder}: cannot be made: {error.strerror}; choose another with --data-dir"
            ) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StartupError(
                f"{folder}: not writable for this user; change its owner, or choose another "
                "with --data-dir"
            )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a data folder while the block runs. The lock also ends with the process.

    Raises:
        AlreadyRunning: another process holds the lock.
        StartupError: this user cannot open the lock file.
    """
    with opened(folder / "captiond.lock") as file:
        try:
            # guard: one-service-for-a-folder
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyRunning(
                f"{folder}: in use by the captiond with process id {file.read().strip()}; stop "
                "that one, or choose another folder with --data-dir"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def opened(path: Path) -> TextIO:
    """Open the lock file, and create it if there is none. Raises StartupError."""
    try:
        return path.open("a+")
    except OSError as error:
        raise StartupError(
            f"{path}: cannot be opened: {error.strerror}; be the user of the service"
        ) from error

"""The lock of a data folder: at most one captiond serves it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from captiond.errors import AlreadyRunning, StartupError

LOCK = "captiond.lock"  # the name of its file


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a data folder while the block runs. The lock also ends with the process.

    Raises:
        AlreadyRunning: another process holds the lock.
        StartupError: this user cannot open the lock file.
    """
    with opened(folder / LOCK) as file:
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


def is_locked(folder: Path) -> bool:
    """Return whether a captiond serves a data folder at this moment. Nothing is created."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody has served it yet, or it belongs to another user
        return False
    return False


def opened(path: Path) -> TextIO:
    """Open the lock file, and create it if there is none. No other user can open it.

    Raises:
        StartupError: this user cannot open it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.fdopen(os.open(path, flags, 0o600), "r+")
    except OSError as error:
        raise StartupError(
            f"{path}: cannot be opened: {error.strerror}; run captiond as the user that owns it"
        ) from error

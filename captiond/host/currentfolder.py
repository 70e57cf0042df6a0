"""The current folder, which somebody may delete while a process is in it."""

import os
from contextlib import suppress

NOWHERE = "/proc"  # no relative path leads to a file of anybody there, and none can be created


def leave_deleted_folder() -> None:
    """Leave the current folder if it was deleted: it cannot be left to a child process.

    multiprocessing starts no process in such a folder, and MKL ends the process that computes in
    one. Relative paths lead nowhere there in any case.
    """
    try:
        os.getcwd()  # noqa: PTH109 - a Path is not needed
    except OSError:
        with suppress(OSError):
            os.chdir(NOWHERE)

"""How a command ends: its exit status, its last message, and what Ctrl-C does.

A command that is stopped by Ctrl-C ends by SIGINT itself. The shell then knows, and a loop of
commands in a script stops as well. The shell shows the exit status 130.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

EXIT_FAILED, EXIT_WRONG_USAGE, EXIT_STOPPED = 1, 2, 130


def fail(message: str, status: int) -> int:
    """Print a message to standard error and return `status`."""
    for line in message.splitlines():
        print_error(f"captiond: {line}")
    return status


def print_error(line: str) -> None:
    """Print a line to standard error, if anything reads it."""
    with suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def die_by(number: signal.Signals) -> NoReturn:
    """End this process by a signal. What standard output has buffered is written first."""
    signal.signal(number, signal.SIG_IGN)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container ignores its own signals


@contextmanager
def cleaning_up_on_interrupt() -> Iterator[None]:
    """Turn the first Ctrl-C in the block into KeyboardInterrupt. A second one ends the process.

    Outside of such a block, Ctrl-C ends a command at once.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for a command in the background
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

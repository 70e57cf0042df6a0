"""How a command ends: its exit status, its last message, and what Ctrl-C does.

A command that is stopped by Ctrl-C ends by SIGINT itself. The shell then knows, and a loop of
commands in a script stops as well. The shell shows the exit status 130.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import NoReturn

SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it
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


@contextmanager
def cancelling_on_interrupt() -> Iterator[None]:
    """Let the first Ctrl-C in the block cancel the main task of `asyncio.run`.

    An exception in the middle of the event loop could end a task between two steps that belong
    together. `asyncio.run` raises KeyboardInterrupt once the task has cleaned up, and ends at once
    after a second Ctrl-C.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as for a command in the background
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio looks for this one
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def ending_at_once(clean_up: Callable[[], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM end this process within the block, even while it is in native code.

    Python runs signal handlers between two instructions of its own, and an operation of torch may
    take many seconds. So a thread waits for the signals. It calls `clean_up`, and ends the process
    with the exit status that a shell gives to a process which ended by the signal.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.getsignal(number) for number in numbers}
    former = signal.set_wakeup_fd(writer)
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)

    def wait() -> None:
        if received := os.read(reader, 1):
            clean_up()
            shown = SHOW_CURSOR + "\n" if sys.stderr.isatty() else ""
            print_error(f"{shown}captiond: stopped")
            os._exit(128 + received[0])

    thread = Thread(target=wait, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        for number in numbers:
            signal.signal(number, before[number])
        os.close(writer)
        thread.join()
        os.close(reader)

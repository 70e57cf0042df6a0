"""What `captiond serve` says to a person who has started it on a terminal: one line, and one more.

The log has more, but nobody reads a log while all is well. With a pipe, a file or a service manager
there are no such lines.
"""

import sys
from collections.abc import Callable

from captiond.cli.exits import print_error
from captiond.messages import ModelInfo
from captiond.settings.config import LogSettings


def lines_for_people(logs: LogSettings) -> bool:
    """Return whether a person watches: standard error is a terminal, and the log is text."""
    return sys.stderr.isatty() and logs.format != "json"


def ready_announcer(url: str, logs: LogSettings) -> Callable[[ModelInfo], None]:
    """Return what is called when the service can caption for the first time."""

    def announce(model: ModelInfo) -> None:
        if lines_for_people(logs):
            print_error(ready_line(url, model))

    return announce


def ready_line(url: str, model: ModelInfo) -> str:
    """Return `ready: http://127.0.0.1:8000 · captiond/scenes · cpu`."""
    name = model.name
    if model.is_fallback:
        name += f" in place of {model.requested}, which is not available"
    return f"ready: {url} · {name} · {model.device}"


def say_stopped(logs: LogSettings) -> None:
    """Say that the service has ended as it should."""
    if lines_for_people(logs):
        print_error("stopped; accepted tasks continue at the next start")

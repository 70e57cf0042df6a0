"""Logging to standard error: text for people on a terminal, JSON lines elsewhere.

The renderers escape values, so that a client's file name cannot forge a line.
"""

import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TextIO, cast

from captiond.left_out import left_out
from captiond.settings.config import LogSettings

with left_out("rich"):  # it is for tracebacks that show the values of variables
    import structlog
    from structlog.typing import EventDict, Processor

NAMED_IDS = 8  # in one log entry
TASK_ID = re.compile(r"(task_\d+_[0-9a-f]{6})[0-9a-f]+")


def set_up_logs(settings: LogSettings, *, process: str) -> None:
    """Configure structlog and the standard library's logging for this process.

    `process` is the process's name, which each line has.
    """
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        shorten_task_ids,
        structlog.processors.add_log_level,
        time_stamper(console=console),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, *renderers(console=console)],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    bridge_standard_logging(shared, console=console)


def time_stamper(*, console: bool) -> Processor:
    """Return what adds the time: for people the local time, for programs UTC."""
    if console:
        return structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False)
    return structlog.processors.TimeStamper(fmt="iso", utc=True)


def shorten_task_ids(_: object, __: str, event: EventDict) -> EventDict:
    """Shorten the ids of tasks in an entry."""
    if "task_id" in event:
        event["task_id"] = shortened(event["task_id"])
    if "task_ids" in event:
        event["task_ids"] = [shortened(task_id) for task_id in event["task_ids"]]
    return event


def shortened(text: str) -> str:
    """Return a text with no whole task id.

    Whoever has the id of a task can read its results. The part that is left is enough to find the
    task in `captiond tasks list`.
    """
    return TASK_ID.sub(r"\1…", text)


def with_colors() -> bool:
    """Return whether the log is read by a person on a terminal who wants colors.

    https://no-color.org says that any value of NO_COLOR but the empty one means no.
    """
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stderr.isatty()


class Unfailing:
    """A stream that drops what cannot be written: a full disk must not stop the service."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def renderers(*, console: bool) -> list[Processor]:
    """Return the last processors of a line: as text for people, or as JSON."""
    if console:
        # The default traceback shows the values of variables, among them the keys of clients.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=with_colors(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def bridge_standard_logging(shared: list[Processor], *, console: bool) -> None:
    """Print the warnings that libraries log through `logging` in the same format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderers(console=console),
            ],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    # It logs each malformed body, which the client gets as an error, and each epilogue.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def joined_ids(ids: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the ids of several images as fields of one log entry.

    A batch may have images of hundreds of clients, so only the first ones are named.
    """
    found: dict[str, dict[str, None]] = {}
    for each in ids:
        for name, value in each.items():
            found.setdefault(f"{name}s", {})[value] = None
    return {name: list(values)[:NAMED_IDS] for name, values in found.items()}

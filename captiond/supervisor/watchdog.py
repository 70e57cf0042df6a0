"""The watchdog: systemd restarts the service when captions no longer work and a restart may help.

systemd expects a message every few seconds (sd_watchdog_enabled(3)). It is sent only if a request
over HTTP is answered, and if images that wait do get finished. It is sent as well while a restart
would not help: a service without a model answers and says why, and a database that cannot be
written, for example on a full disk, would refuse the results of the next run as well. A restart
would lose the results that wait in the model process.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from captiond.authority import address_of
from captiond.host.systemd import Notifier

log = structlog.get_logger()
ANSWER_SECONDS = 10.0
BATCHES = 2.0  # a batch that takes too long ends its process, and its images are tried once more


@dataclass(slots=True)
class Progress:
    """Whether the images that wait get finished. Time is an argument.

    `finished` is a count that only rises.
    """

    patience: float
    finished: int = 0
    since: float | None = None

    def stuck(self, *, waiting: bool, finished: int, now: float) -> bool:
        """Return whether images have waited for longer than `patience`, and none was finished."""
        if not waiting or finished != self.finished or self.since is None:
            self.finished, self.since = finished, now
        return now - self.since > self.patience


class Watchdog:
    """Reports to systemd regularly that captions work.

    `waiting` returns whether images wait for a model that is ready, and `finished` how many images
    have been finished so far. `results_wait` returns whether results wait for the database. In a
    stop (`stopping`), nobody accepts requests any more, and the deadlines of the stop apply
    instead.
    """

    def __init__(
        self,
        notifier: Notifier,
        ask: Callable[[], Awaitable[bool]],
        waiting: Callable[[], bool],
        finished: Callable[[], int],
        results_wait: Callable[[], bool],
        stopping: Callable[[], bool],
        *,
        batch_seconds: float,
    ) -> None:
        self._notifier = notifier
        self._ask = ask
        self._waiting = waiting
        self._finished = finished
        self._results_wait = results_wait
        self._stopping = stopping
        self._progress = Progress(BATCHES * batch_seconds)

    async def run(self) -> None:
        """Work until cancelled, or return if systemd has set up no watchdog."""
        seconds = self._notifier.watchdog_seconds
        if seconds is None:
            return
        now = asyncio.get_running_loop().time
        while True:
            waiting = self._waiting() and not self._results_wait()
            stuck = self._progress.stuck(waiting=waiting, finished=self._finished(), now=now())
            works = not stuck and await self._ask()
            if works or self._stopping():  # a stop may have begun while it was asked
                self._notifier.alive()
            else:
                log.error("watchdog_withheld", images_stuck=stuck)
            await asyncio.sleep(seconds / 3)


def asker(url: str) -> Callable[[], Awaitable[bool]]:
    """Return a function that asks the service at a URL whether it answers requests at all."""
    host, port = address_of(url)

    async def ask() -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answers(host, port)
        return False

    return ask


async def answers(host: str, port: int) -> bool:
    """Return whether a request over HTTP gets an answer, whatever its status is.

    Raises:
        OSError: nobody listens, or the connection is closed.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await reader.readline()).startswith(b"HTTP/1.1 ")
    finally:
        writer.close()

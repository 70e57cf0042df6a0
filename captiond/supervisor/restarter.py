"""A restarter: it keeps one child process running."""

import asyncio
import secrets
import signal
from collections.abc import Awaitable, Callable

import structlog

from captiond.backoff import backoff
from captiond.processes.children import ChildProcess, MakeStart

log = structlog.get_logger()
FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0  # seconds between a failed start and the next one
LONGEST_DELAY_AFTER_KILL = 2.0  # a kill does not mean that the next start fails


class Restarter:
    """Starts a child process, and another one whenever it exits, until the service stops.

    `role` names the process and all its replacements, as `model0`. `attend` handles a child from
    its start until everything that its exit requires is done.
    """

    def __init__(
        self,
        role: str,
        module: str,
        make_start: MakeStart,
        attend: Callable[["Restarter", ChildProcess], Awaitable[None]],
    ) -> None:
        self.role = role
        self._module = module
        self._make_start = make_start
        self._attend = attend
        self._standby: ChildProcess | None = None
        self._closed = False
        self._worked = False

    def mark_working(self) -> None:
        """Note that the current child has started well, so that its exit is no failed start."""
        self._worked = True

    async def run(self, stop: asyncio.Event) -> None:
        """Keep a child running. Return when `stop` is set and the last child has exited."""
        failures = 0
        try:
            while not stop.is_set():
                self._worked = False
                killed = await self._run_child()
                failures = 1 if self._worked else failures + 1
                await pause(restart_delay(failures, killed=killed), stop)
        finally:
            self._closed = True
            if self._standby is not None:
                self._standby.discard()

    async def prepare_standby(self) -> None:
        """Start the next child in advance. It waits, with its libraries imported, for `Go`.

        A child whose imports are not done when the call is cancelled is killed. It imports at the
        lowest priority, so on a busy machine a new child is ready sooner.

        Raises:
            OSError: it cannot be started.
            ChannelClosed: it has exited.
        """
        if self._standby is not None:
            return
        child = await self._spawn(standby=True)
        try:
            await child.channel.receive()  # Imported
        except BaseException:
            child.discard()
            raise
        if self._closed:  # the service stopped meanwhile: nobody would ever end this child
            child.discard()
        else:
            self._standby = child

    async def _run_child(self) -> bool:
        """Run one child. Return whether SIGKILL ended it."""
        try:
            child, self._standby = self._standby or await self._spawn(), None
        # guard: refused-start-is-repeated
        except OSError as error:  # the machine may have memory and descriptors again later
            log.error("process_not_started", role=self.role, reason=str(error))
            return False
        try:
            await self._attend(self, child)
        except BaseException:
            child.discard()
            raise
        killed = child.process.exitcode == -signal.SIGKILL
        child.close()
        return killed

    async def _spawn(self, *, standby: bool = False) -> ChildProcess:
        name = f"{self.role}-{secrets.token_hex(4)}"
        return await ChildProcess.spawn(name, self._module, self._make_start, standby=standby)


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Sleep, but return as soon as `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def restart_delay(failures: int, *, killed: bool) -> float:
    """Return the seconds to wait before the next start, after `failures` failed starts in a row."""
    longest = LONGEST_DELAY_AFTER_KILL if killed else LONGEST_DELAY
    return backoff(failures, first=FIRST_DELAY, longest=longest)

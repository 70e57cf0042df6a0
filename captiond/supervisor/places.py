"""A place that always has a child process."""

import asyncio
import secrets
import signal
from collections.abc import Awaitable, Callable

import structlog

from captiond.processes.children import Child, MakeStart

log = structlog.get_logger()
FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0
KILLED_DELAY = 2.0  # the longest after a kill, which says nothing of whether the next start fails


class Place:
    """Where one child process always runs, until `stop` is set.

    `attend` sees to a child from its start to its end, and to what it leaves behind.
    """

    def __init__(
        self,
        name: str,
        module: str,
        make_start: MakeStart,
        attend: Callable[["Place", Child], Awaitable[None]],
    ) -> None:
        self.name = name
        self._module = module
        self._make_start = make_start
        self._attend = attend
        self._standby: Child | None = None
        self._worked = False

    def worked(self) -> None:
        """Note that the present child does what it is for: its end will be no failure to start."""
        self._worked = True

    async def keep(self, stop: asyncio.Event) -> None:
        """Start a child, and another whenever one ends; return when `stop` is set and it ended."""
        failures = 0
        try:
            while not stop.is_set():
                self._worked = False
                killed = await self._run_one()
                failures = 1 if self._worked else failures + 1
                await pause(restart_delay(failures, killed=killed), stop)
        finally:
            if self._standby is not None:
                self._standby.kill()

    async def stand_by(self) -> None:
        """Have the next child started beforehand: it waits until its turn comes."""
        if self._standby is None:
            self._standby = await self._spawn()

    async def _run_one(self) -> bool:
        """Whether it was killed."""
        try:
            child, self._standby = self._standby or await self._spawn(), None
        except OSError as error:  # no memory, no descriptor: that may mend itself
            log.error("not_started", child=self.name, reason=str(error))
            return False
        try:
            await self._attend(self, child)
        except BaseException:
            child.kill()
            raise
        killed = child.process.exitcode == -signal.SIGKILL
        child.close()
        return killed

    async def _spawn(self) -> Child:
        name = f"{self.name}-{secrets.token_hex(4)}"
        return await Child.spawn(name, self._module, self._make_start)


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Sleep, but not once `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def restart_delay(failures: int, *, killed: bool) -> float:
    """Seconds before the next try, after so many failures in a row: doubling, with an end."""
    longest = KILLED_DELAY if killed else LONGEST_DELAY
    return float(min(FIRST_DELAY * 2 ** (failures - 1), longest))

"""The one place of the supervisor that removes spool files."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

import structlog

from captiond.backoff import backoff
from captiond.errors import StoreError
from captiond.spool import Spool

log = structlog.get_logger()
NeededNames = Callable[[], Awaitable[Collection[str]]]
CleaningJob = Callable[[], Awaitable[int]]
FIRST_RETRY, LONGEST_RETRY = 5.0, 600.0  # seconds until a sweep that failed is repeated


@dataclass(slots=True)
class Cleaning:
    """A job and the future of its result. If it `repeats`, it is tried until it succeeds."""

    job: CleaningJob
    result: asyncio.Future[int]
    repeats: bool
    failures: int = 0


async def nothing() -> None:
    """Confirm that the files are our own: nobody else can write to a folder of ours."""


class SpoolCleaner:
    """Removes spool files in a thread, one job after the other, in the order of the calls.

    The removal of a large file blocks for up to a second on some file systems, so it never runs in
    the event loop. Each method returns a future at once, which callers need not await. Its result
    is the number of files that were to be removed. It never holds an exception: an error of the
    storage is logged, and a later pass removes what is left.

    `needed` returns the names of all files that a task still needs, `monotonic` a time in seconds.
    `confirm` raises StoreError if the files may be those of another service.
    """

    def __init__(
        self,
        spool: Spool,
        needed: NeededNames,
        *,
        confirm: Callable[[], Awaitable[None]] = nothing,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._needed = needed
        self._confirm = confirm
        self._monotonic = monotonic
        self._strays: dict[str, float] = {}
        self._jobs: asyncio.Queue[Cleaning] = asyncio.Queue()

    def remove(self, names: Iterable[str]) -> asyncio.Future[int]:
        """Remove files."""
        files = list(names)
        return self._put(lambda: asyncio.to_thread(self._remove, files))

    def remove_unneeded(self, names: Iterable[str]) -> asyncio.Future[int]:
        """Remove those of some files that no task needs by then."""
        files = set(names)

        async def job() -> int:
            unneeded = files - set(await self._needed()) if files else files
            return await asyncio.to_thread(self._remove, list(unneeded))

        return self._put(job)

    def sweep(self, owner: str) -> asyncio.Future[int]:
        """Remove the files of a process that has exited, except those that tasks need.

        If the storage fails, this is repeated until it succeeds.
        """

        async def job() -> int:
            needed = await self._needed()
            return await asyncio.to_thread(self._spool.sweep, needed, owner=owner)

        # guard: sweep-until-it-succeeds
        return self._put(job, repeats=True)

    def sweep_at_start(self) -> asyncio.Future[int]:
        """Remove what an earlier run has left, except what tasks need. This is tried once.

        No web process may run: the file of a request in progress belongs to no task yet.
        """

        async def job() -> int:
            needed = await self._needed()
            return await asyncio.to_thread(self._spool.sweep_at_start, needed)

        return self._put(job)

    def remove_orphans(self, *, grace: float) -> asyncio.Future[int]:
        """Remove files that no task needed `grace` seconds ago and now.

        A file that no task needs may belong to a request in progress. How old it is cannot be seen
        from its own time, because the clock may have jumped since it was written. So each call
        notes which files no task needs, and removes those that an earlier call has noted. The files
        are listed before the database is read: a task may be accepted in between.
        """

        async def job() -> int:
            await self._confirm()
            names = await asyncio.to_thread(self._spool.sizes)
            strays, now = set(names) - set(await self._needed()), self._monotonic()
            self._strays = {name: self._strays.get(name, now) for name in strays}
            old = [name for name, since in self._strays.items() if now - since >= grace]
            return await asyncio.to_thread(self._remove, old)

        return self._put(job)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            cleaning = await self._jobs.get()
            number = await attempt(cleaning.job)
            if not cleaning.result.done():  # whoever waited for it may be cancelled
                cleaning.result.set_result(number or 0)
            if number is None and cleaning.repeats:
                self._repeat(cleaning)
            self._jobs.task_done()

    async def finish(self) -> None:
        """Wait until all jobs so far are finished."""
        await self._jobs.join()

    def _put(self, job: CleaningJob, *, repeats: bool = False) -> asyncio.Future[int]:
        result: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait(Cleaning(job, result, repeats))
        return result

    def _repeat(self, cleaning: Cleaning) -> None:
        """Put a job that has failed into the queue again, later each time."""
        cleaning.failures += 1
        delay = backoff(cleaning.failures, first=FIRST_RETRY, longest=LONGEST_RETRY)
        asyncio.get_running_loop().call_later(delay, self._jobs.put_nowait, cleaning)

    def _remove(self, names: list[str]) -> int:
        self._spool.remove(names)
        return len(names)


async def attempt(job: CleaningJob) -> int | None:
    """Return what the job returns, or None if the storage failed, which is logged."""
    try:
        return await job()
    except (OSError, StoreError) as error:
        log.warning("spool_not_cleaned", reason=str(error))
        return None

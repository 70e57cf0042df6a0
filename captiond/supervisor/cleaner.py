"""The one place of the supervisor that removes spool files."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable

import structlog

from captiond.errors import StoreError
from captiond.spool import Spool

log = structlog.get_logger()
NeededNames = Callable[[], Awaitable[Collection[str]]]
CleaningJob = Callable[[], Awaitable[int]]


class SpoolCleaner:
    """Removes spool files in a thread, one job after the other, in the order of the calls.

    The removal of a large file blocks for up to a second on some file systems, so it never runs in
    the event loop. Each method returns a future at once, which callers need not await. Its result
    is the number of files that were to be removed. It never holds an exception: an error of the
    storage is logged, and a later sweep removes what is left.

    `needed` returns the names of all files that a task still needs.
    """

    def __init__(self, spool: Spool, needed: NeededNames) -> None:
        self._spool = spool
        self._needed = needed
        self._jobs: asyncio.Queue[tuple[CleaningJob, asyncio.Future[int]]] = asyncio.Queue()

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

    def sweep(self, owner: str | None = None) -> asyncio.Future[int]:
        """Remove the files of a process that has exited, except those that tasks need.

        Without an owner, remove the files of all processes. Then no web process may run: the file
        of a request in progress belongs to no task yet.
        """

        async def job() -> int:
            needed = await self._needed()
            return await asyncio.to_thread(self._spool.sweep, needed, owner=owner)

        return self._put(job)

    def remove_orphans(self, *, before: float) -> asyncio.Future[int]:
        """Remove files that no task needs and that were last written before a Unix time.

        The files are listed before the database is read: a task that is accepted in between owns a
        younger file.
        """

        async def job() -> int:
            old = await asyncio.to_thread(self._spool.written_before, before)
            orphans = set(old) - set(await self._needed()) if old else set()
            return await asyncio.to_thread(self._remove, list(orphans))

        return self._put(job)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            job, result = await self._jobs.get()
            number = await attempt(job)
            if not result.done():  # whoever waited for it may be cancelled
                result.set_result(number)
            self._jobs.task_done()

    async def finish(self) -> None:
        """Wait until all jobs so far are finished."""
        await self._jobs.join()

    def _put(self, job: CleaningJob) -> asyncio.Future[int]:
        result: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait((job, result))
        return result

    def _remove(self, names: list[str]) -> int:
        self._spool.remove(names)
        return len(names)


async def attempt(job: CleaningJob) -> int:
    """Return what the job returns, or 0 if the storage failed, which is logged."""
    try:
        return await job()
    except (OSError, StoreError) as error:
        log.warning("spool_not_cleaned", reason=str(error))
        return 0

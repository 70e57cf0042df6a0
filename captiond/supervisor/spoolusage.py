"""Measures the size of the spool, publishes it, and keeps files for a retry within their limit."""

import asyncio
import time
from collections.abc import Mapping

import structlog

from captiond.metrics import DISK_BYTES, DISK_FREE_BYTES, SPOOL_BYTES, SPOOL_LIMIT_BYTES
from captiond.recording import Registry
from captiond.settings.config import Settings
from captiond.spool import DiskSpace, Spool
from captiond.store import expiry
from captiond.store.engine import Engine
from captiond.store.outage import StorageOutage
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.statusboard import StatusBoard

log = structlog.get_logger()
PERIOD_SECONDS = 5.0
REMOTE_PERIOD_SECONDS = 60.0  # between two listings of object storage, which cost time and money
PAUSE = 20  # times the duration of the last measurement, so that at most 5 % of the time is spent
LARGEST_RESERVE = 0.05  # of the disk
DISK_STEP = 16 * 1024 * 1024
RECOVERED = 4 * DISK_STEP  # free bytes above the reserve, until which a full disk counts as full
TASKS = 200  # whose files are released in one transaction


class SpoolUsage:
    """Measures the spool every few seconds. To measure it for every upload would take much longer.

    Object storage is measured every minute. Web processes get the result late, so they can exceed
    the limit by what they accept within that time.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        spool: Spool,
        cleaner: SpoolCleaner,
        status: StatusBoard,
        registry: Registry,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._spool = spool
        self._cleaner = cleaner
        self._status = status
        self._registry = registry
        self._is_full = False  # whether the disk had no space for uploads at the last measurement
        self._outage = StorageOutage("measurement of the spool")
        self._disk_outage = StorageOutage("measurement of the disk")

    async def run(self) -> None:
        """Measure the spool every few seconds, until cancelled."""
        listing_due = 0.0
        while True:
            begun = time.monotonic()
            if self._spool.remote and begun < listing_due:
                await self.measure_disk()
                await asyncio.sleep(PERIOD_SECONDS)
                continue
            await self.measure()
            pause = PAUSE * (time.monotonic() - begun)
            listing_due = time.monotonic() + max(REMOTE_PERIOD_SECONDS, pause)
            await asyncio.sleep(
                PERIOD_SECONDS if self._spool.remote else max(PERIOD_SECONDS, pause)
            )

    async def measure_at_start(self) -> None:
        """Measure the spool, or only the disk if it is on other machines: a start cannot wait."""
        await (self.measure_disk() if self._spool.remote else self.measure())

    async def measure(self) -> None:
        """Measure the spool once, publish the result, and release files beyond `retry_bytes`."""
        await self.measure_disk()
        with self._outage.tolerated():
            total = await asyncio.to_thread(self._spool.total_size)
            limits = self._settings.limits
            self._registry.set(SPOOL_BYTES, total)
            self._registry.set(SPOOL_LIMIT_BYTES, limits.spool_bytes)
            self._status.spool_measured(free_bytes(limits.spool_bytes, total))
            most = self._settings.retention.retry_bytes
            if 0 < most < total:
                await self._release_beyond(most)

    async def measure_disk(self) -> None:
        """Measure and publish the space of the disk that uploads are written to."""
        with self._disk_outage.tolerated():
            space = await asyncio.to_thread(self._spool.disk_space)
            self._registry.set(DISK_FREE_BYTES, space.free)
            self._registry.set(DISK_BYTES, space.total)
            # The reserve is kept by uploads, which do not come to a node without the API.
            has_api, limits = self._settings.node.has_api, self._settings.limits
            reserve = limits.reserve_bytes if has_api else 0
            free = above_reserve(space, reserve, was_full=self._is_full)
            self._is_full = free == 0
            self._status.disk_measured(free, writable=space.writable)
        if self._disk_outage.lasts:
            self._status.disk_measured(None, writable=False)

    async def _release_beyond(self, most: int) -> None:
        files = await expiry.files_kept_for_retry(self._engine)
        if not files:
            return
        sizes = await asyncio.to_thread(self._spool.sizes)
        surplus = beyond(files, sizes, most)
        for begin in range(0, len(surplus), TASKS):
            some = surplus[begin : begin + TASKS]
            released = await expiry.release_files_of(self._engine, some)
            self._cleaner.remove(files[task_id] for task_id in released)
            log.info("retry_files_released", tasks=len(released))


def free_bytes(limit: int, total: int) -> int | None:
    """Return how many bytes tasks may still store, or None if `limit` is 0: there is none."""
    return max(0, limit - total) if limit else None


def above_reserve(space: DiskSpace, reserve: int, *, was_full: bool = False) -> int | None:
    """Return how many bytes uploads may take of a disk, or None if `reserve` is 0: no limit.

    A small disk has a smaller reserve. The result is a multiple of DISK_STEP, so that it does not
    change with every measurement.

    A disk that `was_full` counts as full until RECOVERED bytes are free above the reserve, or as
    many bytes as the reserve has if it is smaller. Otherwise a service at the limit would change
    between ready and not ready with every few uploads.
    """
    if reserve == 0:
        return None
    kept = min(reserve, int(space.total * LARGEST_RESERVE))
    free = space.free - kept
    if was_full and free < min(RECOVERED, kept):
        return 0
    return max(0, free // DISK_STEP * DISK_STEP)


def beyond(files: Mapping[str, str], sizes: Mapping[str, int], most: int) -> list[str]:
    """Return the tasks to release so that the other files take at most `most` bytes.

    `files` are names of files by task, the first to release first; `sizes` are in bytes, by name.
    """
    total = sum(sizes.get(name, 0) for name in files.values())
    surplus = []
    for task_id, name in files.items():
        if total <= most:
            break
        surplus.append(task_id)
        total -= sizes.get(name, 0)
    return surplus

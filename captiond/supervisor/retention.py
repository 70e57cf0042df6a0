"""Retention: deletes expired data every hour, a few rows in each transaction."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from captiond.callbacks import longest_life
from captiond.settings.config import Settings
from captiond.store import expiry
from captiond.store.engine import Engine
from captiond.store.outage import StorageOutage
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.courier import retry_policy
from captiond.supervisor.steadyclock import SteadyClock

log = structlog.get_logger()
PERIOD_SECONDS = 3600.0
TICK_SECONDS = 60.0  # between two readings of the clock, which stores its time
DAY_SECONDS, HOUR_SECONDS = 86400.0, 3600.0
ROWS, SHARDS = 200, 2000  # deleted in one transaction; finished shards are small
PAUSE = 4  # times the duration of the last transaction, so that others can use the database
PAUSE_SECONDS = 0.05  # at least


def longest_kept(settings: Settings) -> float:
    """Return for how many seconds anything is kept at most, of what is ever deleted."""
    days = max(settings.retention.task_days, settings.retention.retry_days)
    webhooks = settings.webhooks
    life = longest_life(retry_policy(webhooks), try_seconds=webhooks.timeout_seconds)
    return max(days * DAY_SECONDS, life + HOUR_SECONDS)  # it is rounded up to hours


async def tidy_forever(
    settings: Settings, engine: Engine, cleaner: SpoolCleaner, clock: SteadyClock
) -> None:
    """Delete expired data every hour, until cancelled."""
    outage = StorageOutage("retention")
    next_pass = time.monotonic()
    while True:
        with outage.tolerated():
            now = await clock.now()
            if time.monotonic() >= next_pass:
                await tidy(settings, engine, cleaner, now=now)
                next_pass = time.monotonic() + PERIOD_SECONDS
        await asyncio.sleep(TICK_SECONDS)


async def tidy(settings: Settings, engine: Engine, cleaner: SpoolCleaner, *, now: float) -> None:
    """Delete all data that is too old or over its limit at the Unix time `now` of the steady clock.

    Raises:
        StoreError: the database cannot be read or written. The next call continues.
    """
    tasks = await delete_tasks(settings, engine, now)
    await delete_imports(settings, engine, now)
    captions = await delete_captions(settings, engine)
    before = now - settings.retention.retry_days * DAY_SECONDS
    await little_by_little(lambda: expiry.release_files(engine, before=before))
    files = await cleaner.remove_orphans(grace=settings.upload_grace)
    if tasks or captions or files:
        log.info("retention", tasks=tasks, captions=captions, orphans_removed=files)


async def delete_tasks(settings: Settings, engine: Engine, now: float) -> int:
    """Delete finished tasks that are older than `task_days`. Return their number."""
    days = settings.retention.task_days
    if days == 0:
        return 0
    before = now - days * DAY_SECONDS
    return await little_by_little(
        lambda: expiry.delete_finished(engine, before=before, images=ROWS)
    )


async def delete_imports(settings: Settings, engine: Engine, now: float) -> None:
    """Delete finished imports that are older than `task_days`. Their files of results stay."""
    days = settings.retention.task_days
    if days == 0:
        return
    before = now - days * DAY_SECONDS
    await little_by_little(
        lambda: expiry.delete_finished_imports(engine, before=before, shards=SHARDS)
    )


async def delete_captions(settings: Settings, engine: Engine) -> int:
    """Delete the oldest captions of the cache beyond `cache_rows`. Return their number."""
    rows = settings.retention.cache_rows
    left = await expiry.captions_over(engine, rows) if rows else 0

    async def delete_some() -> int:
        nonlocal left
        some = await expiry.delete_oldest_captions(engine, min(left, ROWS)) if left else 0
        left -= some
        return some

    return await little_by_little(delete_some)


async def little_by_little(delete: Callable[[], Awaitable[int]]) -> int:
    """Repeat `delete`, with pauses, until it deletes nothing. Return the number that it deleted."""
    total = 0
    while True:
        begun = time.monotonic()
        deleted = await delete()
        if deleted == 0:
            return total
        total += deleted
        await asyncio.sleep(max(PAUSE_SECONDS, PAUSE * (time.monotonic() - begun)))

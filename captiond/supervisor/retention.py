"""Deletes what is kept no longer: now and again, a little at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from captiond.config import Settings
from captiond.errors import StoreError
from captiond.spool import open_spool
from captiond.store import expiry
from captiond.store.sqlite import Engine
from captiond.store.tasks import needed_spool_names

log = structlog.get_logger()
PERIOD_SECONDS = 3600.0
DAY_SECONDS = 86400.0
ROWS = 200  # deleted in one transaction
REST = 4  # times as long as the last transaction took, so that others have the database meanwhile
REST_SECONDS = 0.05


async def tidy_forever(settings: Settings, engine: Engine) -> None:
    while True:
        try:
            await tidy(settings, engine, now=time.time())
        except StoreError as error:
            log.error("retention_waits", reason=str(error))
        await asyncio.sleep(PERIOD_SECONDS)


async def tidy(settings: Settings, engine: Engine, *, now: float) -> None:
    """Delete all that is too old, or too much, as of `now`."""
    tasks = await delete_tasks(settings, engine, now)
    captions = await delete_captions(settings, engine)
    before = now - settings.retention.retry_days * DAY_SECONDS
    await little_by_little(lambda: expiry.release_files(engine, before=before))
    files = await remove_orphans(settings, engine, now)
    if tasks or captions or files:
        log.info("retention", tasks=tasks, captions=captions, orphans_removed=files)


async def delete_tasks(settings: Settings, engine: Engine, now: float) -> int:
    days = settings.retention.task_days
    if days == 0:
        return 0
    before = now - days * DAY_SECONDS
    return await little_by_little(
        lambda: expiry.delete_finished(engine, before=before, images=ROWS)
    )


async def delete_captions(settings: Settings, engine: Engine) -> int:
    rows = settings.retention.cache_rows
    left = await expiry.captions_over(engine, rows) if rows else 0

    async def delete_some() -> int:
        nonlocal left
        some = await expiry.delete_oldest_captions(engine, min(left, ROWS)) if left else 0
        left -= some
        return some

    return await little_by_little(delete_some)


async def little_by_little(delete: Callable[[], Awaitable[int]]) -> int:
    """Repeat `delete` until it deletes nothing, with rests; the number of all it deleted."""
    total = 0
    while True:
        begun = time.monotonic()
        deleted = await delete()
        if deleted == 0:
            return total
        total += deleted
        await asyncio.sleep(max(REST_SECONDS, REST * (time.monotonic() - begun)))


async def remove_orphans(settings: Settings, engine: Engine, now: float) -> int:
    """Remove spool files that no task owns and that are too old to be of a request under way.

    The files are looked for before the rows: a task that is accepted in between owns a young one.
    """
    spool = open_spool(settings)
    old = await asyncio.to_thread(spool.written_before, now - settings.upload_grace)
    if not old:
        return 0
    owned = await needed_spool_names(engine)
    orphans = [name for name in old if name not in owned]
    await asyncio.to_thread(spool.remove, orphans)
    return len(orphans)

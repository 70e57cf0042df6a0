"""Retention in a real database and a real folder: what is deleted, and in which order."""

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from captiond.jobs import Captioned, Refused
from captiond.settings.config import DataSettings, Settings
from captiond.settings.kept_settings import RetentionSettings
from captiond.store import captions, claims, deliveries, expiry, shards, tasks
from captiond.store.engine import Engine, reading
from captiond.supervisor.retention import tidy
from tests.unit.test_cleaner import cleaning
from tests.unit.test_deliveries import due, failed, finish_all, refused, task
from tests.unit.test_queued_shards import queued

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
DAY = 86400.0


def settings(folder: Path, **kept: float) -> Settings:
    (folder / "spool").mkdir(exist_ok=True)
    return Settings(data=DataSettings(dir=folder), retention=RetentionSettings(**kept))


async def tidied(settings: Settings, store: Engine, *, now: float) -> None:
    """Delete what the settings do not keep at this time, and wait until that is done."""
    async with cleaning(settings, store) as cleaner:
        await tidy(settings, store, cleaner, now=now)


async def count(engine: Engine, table: str) -> int:
    async with reading(engine) as connection:
        query = text(f"SELECT count(*) FROM {table}")
        return int((await connection.execute(query)).scalar_one())


async def test_an_old_task_is_deleted_with_its_images_and_deliveries(
    store: Engine, tmp_path: Path
) -> None:
    await tasks.create_task(store, task("old", images=3))
    await finish_all(store, now=5.0)
    (delivery,) = await due(store, 5.0)
    await deliveries.record(store, [failed(delivery, again=None)])
    month = settings(tmp_path, task_days=30)
    await tidied(month, store, now=5.0 + 30 * DAY)
    assert await tasks.read_task(store, "old") is not None
    await tidied(month, store, now=6.0 + 30 * DAY)
    assert await tasks.read_task(store, "old") is None
    for table in ("images", "deliveries"):
        assert await count(store, table) == 0


async def test_open_tasks_and_pending_deliveries_are_kept(store: Engine, tmp_path: Path) -> None:
    await tasks.create_task(store, task("waits", url=None, images=2))
    await tasks.create_task(store, refused("owed"))
    await tidied(settings(tmp_path, task_days=1), store, now=1e9)
    for task_id in ("waits", "owed"):
        assert await tasks.read_task(store, task_id) is not None
    assert await count(store, "images") == 3


async def test_nothing_is_deleted_if_there_is_no_limit(store: Engine, tmp_path: Path) -> None:
    await tasks.create_task(store, task("old", url=None))
    await finish_all(store, now=5.0)
    await captions.remember(store, {"a": CAPTION, "b": CAPTION}, now=1.0)
    await tidied(settings(tmp_path, task_days=0, cache_rows=0), store, now=1e9)
    assert await tasks.read_task(store, "old") is not None
    assert await count(store, "captions") == 2


async def test_few_rows_are_deleted_at_a_time_and_the_oldest_first(store: Engine) -> None:
    for number in range(6):
        await tasks.create_task(store, task(f"t{number}", url=None, images=4))
        await finish_all(store, now=10.0 - number)
    assert await expiry.delete_finished(store, before=99.0, images=7) == 2
    left = [number for number in range(6) if await tasks.read_task(store, f"t{number}")]
    assert left == [0, 1, 2, 3], "the first finished are deleted first"
    assert await expiry.delete_finished(store, before=99.0, images=1) == 1
    assert await expiry.delete_finished(store, before=1.0, images=1) == 0


async def test_the_oldest_captions_are_deleted_from_the_cache(
    store: Engine, tmp_path: Path
) -> None:
    for age in range(10):
        await captions.remember(store, {f"key{age}": CAPTION}, now=float(age))
    await tidied(settings(tmp_path, cache_rows=4), store, now=1e9)
    found = await captions.look_up(store, [f"key{age}" for age in range(10)])
    kept = [age for age, caption in enumerate(found) if caption is not None]
    assert kept == [6, 7, 8, 9]


async def test_files_that_no_task_owns_are_removed_by_a_later_pass(
    store: Engine, tmp_path: Path
) -> None:
    kept = settings(tmp_path)
    await tasks.create_task(store, task("t"))
    for name in ("spool-t", "web0-old.part"):
        (kept.spool / name).write_bytes(b"x")
    later, now = kept.upload_grace, 0.0
    async with cleaning(kept, store, monotonic=lambda: now) as cleaner:
        await tidy(kept, store, cleaner, now=time.time())
        (kept.spool / "web0-young").write_bytes(b"x")
        now = later
        await tidy(kept, store, cleaner, now=time.time())
    assert sorted(path.name for path in kept.spool.iterdir()) == ["spool-t", "web0-young"]


async def test_files_are_released_a_few_at_a_time(store: Engine, tmp_path: Path) -> None:
    kept = expiry.MOST_TASKS + 5
    poison = Refused("died", "poison_image")
    for number in range(kept):
        await tasks.create_task(store, task(f"t{number}"))
    taken = (await claims.claim(store, kept, owner="m", now=1.0)).claims
    ends = [claims.ImageOutcome(claim.image_id, claim.attempt, poison) for claim in taken]
    await claims.finish(store, ends, now=2.0)
    assert await expiry.release_files(store, before=2.0) == 0
    assert await expiry.release_files(store, before=3.0) == expiry.MOST_TASKS
    await tidied(settings(tmp_path, retry_days=1), store, now=3.0 + DAY)
    assert await tasks.needed_spool_names(store) == set()


async def test_an_old_finished_import_is_deleted_with_its_shards(
    store: Engine, tmp_path: Path
) -> None:
    await queued(store, "open", [1, 1])
    await queued(store, "cancelled", [1, 1])
    await shards.cancel_import(store, "cancelled", now=5.0)
    month = settings(tmp_path, task_days=30)
    await tidied(month, store, now=5.0 + 30 * DAY)
    assert await count(store, "imports") == 2
    await tidied(month, store, now=6.0 + 30 * DAY)
    assert [each.id for each in await shards.newest_imports(store, 9)] == ["open"]
    assert await count(store, "shards") == 2

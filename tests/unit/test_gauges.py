"""The gauges that the supervisor sets when somebody reads the metrics."""

import sqlite3
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond.jobs import Lane, NewImage, NewTask, SpooledImage
from captiond.messages import Ask, Health, ModelInfo, Ready
from captiond.metrics import (
    DATABASE_BYTES,
    HEALTH,
    IMAGES_IN_PROGRESS,
    IMPORT_SHARDS,
    MODEL_INFO,
    QUEUE_IMAGES,
    QUEUE_OLDEST_SECONDS,
    READY,
    WEBHOOKS_PENDING,
    Gauge,
)
from captiond.recording import Registry
from captiond.store import claims, shard_claims, tasks
from captiond.store.engine import Engine, make_engine
from captiond.store.figures import store_figures
from captiond.store.sqlite_file import size_of
from captiond.supervisor.assignment import bulk_work
from captiond.supervisor.gauges import Gauges
from tests.unit.supervised import Parts, supervised
from tests.unit.test_queued_shards import claimed, queued

pytestmark = pytest.mark.anyio
IMAGE = SpooledImage("spool", 0, 1, "sha")
MODEL = ModelInfo("captiond/scenes", "org/model", "f", "cpu", "fp32", 8)


def task(name: str, images: int, accepted_at: float, url: str | None = None) -> NewTask:
    files = tuple(NewImage("a.png", IMAGE) for _ in range(images))
    return NewTask(f"task_{name}", "spool", files, accepted_at, callback_url=url)


def gauges_of(parts: Parts, store: Engine) -> Gauges:
    return Gauges(
        parts.settings,
        parts.registry,
        parts.recorder,
        parts.dispatcher,
        parts.status,
        parts.roster,
        store,
    )


def value(registry: Registry, metric: Gauge, *labels: str) -> float:
    return registry.total.gauges[metric.name, labels]


async def test_the_queues_are_those_of_the_dispatcher_and_of_the_database(
    store: Engine, tmp_path: Path
) -> None:
    async with supervised(tmp_path, store) as parts:
        await tasks.create_task(store, task("old", 3, time.time() - 100))
        await tasks.create_task(store, task("new", 2, time.time()))
        parts.dispatcher.model_ready("model0-1", 24)
        claimed = await claims.claim(store, 3, owner="node/model0", now=time.time())
        for claim in claimed.claims:
            parts.dispatcher.assign_bulk("model0-1", bulk_work(claim, time.monotonic()))
        parts.router.from_web("web0-1", Ask(1, (IMAGE, IMAGE), since=time.monotonic() - 50))
        await gauges_of(parts, store).refresh()
        for lane, waiting, in_progress in ((Lane.INTERACTIVE, 2, 0), (Lane.BULK, 2, 3)):
            assert value(parts.registry, QUEUE_IMAGES, lane) == waiting
            assert value(parts.registry, IMAGES_IN_PROGRESS, lane) == in_progress
        assert value(parts.registry, QUEUE_OLDEST_SECONDS, Lane.INTERACTIVE) >= 50
        assert value(parts.registry, DATABASE_BYTES) > 0


async def test_the_oldest_task_is_the_oldest_that_waits(store: Engine) -> None:
    assert (await store_figures(store)).oldest is None
    await tasks.create_task(store, task("first", 1, 10.0))
    await tasks.create_task(store, task("second", 1, 20.0))
    figures = await store_figures(store)
    assert (figures.waiting, figures.oldest) == (2, 10.0)
    (claim,) = (await claims.claim(store, 1, owner="node/model0", now=30.0)).claims
    figures = await store_figures(store)
    assert (figures.waiting, figures.oldest) == (1, 20.0 if claim.accepted_at == 10 else 10.0)


async def test_the_state_and_the_model_are_those_that_clients_see(
    store: Engine, tmp_path: Path
) -> None:
    async with supervised(tmp_path, store) as parts:
        gauges = gauges_of(parts, store)
        await gauges.refresh()
        assert value(parts.registry, READY) == 0
        assert value(parts.registry, HEALTH, Health.STARTING) == 1
        parts.status.model_reported("model0", Ready(MODEL, 24))
        await gauges.refresh()
        assert value(parts.registry, READY) == 1
        assert value(parts.registry, HEALTH, Health.STARTING) == 0
        labels = ("captiond/scenes", "cpu", "fp32", "true")
        assert value(parts.registry, MODEL_INFO, *labels) == 1


async def test_a_database_that_cannot_be_read_leaves_the_last_numbers(tmp_path: Path) -> None:
    """The metrics are answered all the same: somebody wants to know what is wrong."""
    (tmp_path / "captiond.db").write_bytes(b"no database" * 1000)
    engine = make_engine(tmp_path / "captiond.db")
    async with supervised(tmp_path, engine) as parts:
        with capture_logs() as logs:
            await gauges_of(parts, engine).refresh()
        assert value(parts.registry, QUEUE_IMAGES, Lane.BULK) == 0
        assert value(parts.registry, WEBHOOKS_PENDING) == 0
        assert [entry["event"] for entry in logs] == ["storage_failing"]
    await engine.dispose()


def test_the_size_of_the_database_has_its_log(tmp_path: Path) -> None:
    path = tmp_path / "captiond.db"
    assert size_of(path) == 0
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (a)")
    wal = path.with_name("captiond.db-wal").stat().st_size
    assert wal > 0
    assert size_of(path) == path.stat().st_size + wal
    connection.close()


async def test_the_shards_of_queued_imports_are_counted_by_state(
    store: Engine, tmp_path: Path
) -> None:
    await queued(store, "one", [1, 1, 1])
    await queued(store, "own", [1], queue=False)
    claim = (await claimed(store)).claim
    await shard_claims.finish_shard(store, claim, captioned=1, failed=0, now=3.0)
    await claimed(store)
    async with supervised(tmp_path, store) as parts:
        await gauges_of(parts, store).refresh()
        for state in ("waiting", "claimed", "finished"):
            assert value(parts.registry, IMPORT_SHARDS, state) == 1

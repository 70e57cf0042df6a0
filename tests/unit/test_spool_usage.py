"""The limits of the spool: what tasks may store, and what is kept only for a retry."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captiond.errors import NothingToRetry
from captiond.host.systemd import Notifier
from captiond.jobs import Refused
from captiond.metrics import SPOOL_BYTES
from captiond.recording import Registry
from captiond.settings.config import DataSettings, LimitSettings, Settings
from captiond.settings.kept_settings import RetentionSettings
from captiond.settings.node_settings import NodeSettings
from captiond.spool import DiskSpace, open_spool
from captiond.store import claims, expiry, tasks
from captiond.store.engine import Engine
from captiond.supervisor.roster import Roster
from captiond.supervisor.spoolusage import (
    DISK_STEP,
    RECOVERED,
    SpoolUsage,
    above_reserve,
    beyond,
    free_bytes,
)
from captiond.supervisor.statusboard import StatusBoard
from tests.unit.test_cleaner import BrokenSpool, cleaning, names
from tests.unit.test_deliveries import task

POISON = Refused("the process died", "poison_image")
FILE_BYTES = 10


def settings_for(folder: Path, *, spool_bytes: int = 0, retry_bytes: int = 0) -> Settings:
    settings = Settings(
        data=DataSettings(dir=folder),
        limits=LimitSettings(spool_bytes=spool_bytes),
        retention=RetentionSettings(retry_bytes=retry_bytes),
    )
    settings.spool.mkdir(exist_ok=True)
    return settings


async def measured(settings: Settings, store: Engine) -> tuple[StatusBoard, Registry]:
    """What the status and the metrics say after one measurement, when files are removed."""
    status, registry = StatusBoard(Roster(), Notifier({}), ["model0"]), Registry()
    async with cleaning(settings, store) as cleaner:
        spool = open_spool(settings)
        await SpoolUsage(settings, store, spool, cleaner, status, registry).measure()
        await cleaner.finish()
    return status, registry


def spool_file(settings: Settings, name: str) -> None:
    (settings.spool / name).write_bytes(b"x" * FILE_BYTES)


async def fail_retryably(store: Engine, settings: Settings, task_id: str, now: float) -> None:
    """Let a task finish whose one image may be retried."""
    await tasks.create_task(store, task(task_id, url=None))
    spool_file(settings, f"spool-{task_id}")
    (claim,) = (await claims.claim(store, 1, owner="m", now=now)).claims
    failed = claims.ImageOutcome(claim.image_id, claim.attempt, POISON)
    await claims.finish(store, [failed], now=now)


@pytest.mark.anyio
async def test_files_kept_for_a_retry_are_released_beyond_their_limit(
    store: Engine, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, retry_bytes=2 * FILE_BYTES)
    for number in range(4):
        await fail_retryably(store, settings, f"t{number}", now=100.0 - number)
    await tasks.create_task(store, task("waits", url=None))
    spool_file(settings, "spool-waits")
    await measured(settings, store)
    assert names(settings.spool) == {"spool-t0", "spool-t1", "spool-waits"}
    with pytest.raises(NothingToRetry):
        await tasks.retry(store, "t3")
    assert await tasks.retry(store, "t0") == 1
    await measured(settings, store)
    assert names(settings.spool) == {"spool-t0", "spool-t1", "spool-waits"}


@pytest.mark.anyio
async def test_no_file_is_released_within_the_limit_or_without_one(
    store: Engine, tmp_path: Path
) -> None:
    for retry_bytes in (0, FILE_BYTES):
        settings = settings_for(tmp_path, retry_bytes=retry_bytes)
        if retry_bytes == 0:
            await fail_retryably(store, settings, "t", now=1.0)
        await measured(settings, store)
        assert names(settings.spool) == {"spool-t"}


@pytest.mark.anyio
async def test_a_task_that_is_retried_meanwhile_keeps_its_file(
    store: Engine, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path)
    await fail_retryably(store, settings, "t", now=1.0)
    assert await expiry.files_kept_for_retry(store) == {"t": "spool-t"}
    await tasks.retry(store, "t")
    assert await expiry.release_files_of(store, ["t"]) == set()
    assert await tasks.needed_spool_names(store) == {"spool-t"}


@pytest.mark.anyio
async def test_the_state_and_the_metrics_say_how_full_the_spool_is(
    store: Engine, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, spool_bytes=25)
    for name in ("web0-a", "web0-b.part"):
        spool_file(settings, name)
    status, registry = await measured(settings, store)
    assert status.state.spool_free == 5
    values = {found["name"]: found["value"] for found in registry.snapshot()}
    assert values[SPOOL_BYTES.name] == 20
    status, _ = await measured(settings_for(tmp_path), store)
    assert status.state.spool_free is None


@pytest.mark.anyio
async def test_a_spool_that_cannot_be_measured_ends_nothing(store: Engine, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, spool_bytes=25)
    status = StatusBoard(Roster(), Notifier({}), ["model0"])
    async with cleaning(settings, store) as cleaner:
        spool = BrokenSpool(settings.spool)
        await SpoolUsage(settings, store, spool, cleaner, status, Registry()).measure()
    assert status.state.spool_free is None


@pytest.mark.anyio
async def test_the_state_says_whether_the_disk_takes_uploads(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path)
    assert (await measured(settings, store))[0].state.cannot_store == ""
    with monkeypatch.context() as read_only:  # a test may be run by root, whom no mode stops
        read_only.setattr(os, "access", lambda *_: False)
        assert not (await measured(settings, store))[0].state.disk_writable
    settings.spool.rmdir()
    assert not (await measured(settings, store))[0].state.disk_writable


@pytest.mark.anyio
async def test_a_node_without_the_api_is_ready_whatever_space_uploads_would_have(
    store: Engine, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path)
    assert (await measured(settings, store))[0].state.disk_free is not None
    worker = settings.model_copy(update={"node": NodeSettings(role="worker")})
    assert (await measured(worker, store))[0].state.disk_free is None


def test_a_reserve_of_the_disk_is_kept() -> None:
    gib = 1024**3
    assert above_reserve(DiskSpace(5, 100 * gib), 0) is None
    assert above_reserve(DiskSpace(9 * gib, 100 * gib), gib) == 8 * gib
    assert above_reserve(DiskSpace(gib - 1, 100 * gib), gib) == 0
    small = above_reserve(DiskSpace(gib, gib), gib)
    assert small == int(0.95 * gib) // DISK_STEP * DISK_STEP
    assert above_reserve(DiskSpace(gib + 5, 100 * gib), gib) == 0, "in steps"


def test_a_full_disk_is_full_until_some_space_is_free_again() -> None:
    gib = 1024**3
    for free, before, after in (
        (gib + DISK_STEP, DISK_STEP, 0),
        (gib + RECOVERED - 1, RECOVERED - DISK_STEP, 0),
        (gib + RECOVERED, RECOVERED, RECOVERED),
    ):
        space = DiskSpace(free, 100 * gib)
        assert above_reserve(space, gib) == before
        assert above_reserve(space, gib, was_full=True) == after
    tiny = DiskSpace(4 * DISK_STEP, 4 * DISK_STEP)
    assert above_reserve(tiny, gib, was_full=True) == 3 * DISK_STEP, "it can recover"


@pytest.mark.anyio
async def test_readiness_does_not_change_with_each_measurement_of_a_full_disk(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path)
    reserve = settings.limits.reserve_bytes
    status, spool = StatusBoard(Roster(), Notifier({}), ["model0"]), open_spool(settings)
    full = []
    async with cleaning(settings, store) as cleaner:
        usage = SpoolUsage(settings, store, spool, cleaner, status, Registry())
        for free in (DISK_STEP, 0, DISK_STEP, 0, RECOVERED, DISK_STEP):
            space = DiskSpace(reserve + free, 100 * reserve)
            monkeypatch.setattr(type(spool), "disk_space", lambda _, space=space: space)
            await usage.measure_disk()
            full.append(bool(status.state.cannot_store))
    assert full == [False, True, True, True, False, False]


def test_what_is_free() -> None:
    assert free_bytes(0, 7) is None
    assert [free_bytes(10, total) for total in (0, 9, 10, 11)] == [10, 1, 0, 0]


@given(st.lists(st.integers(min_value=0, max_value=9), max_size=8), st.integers(0, 40))
def test_the_oldest_files_are_surplus_and_no_more_than_needed(sizes: list[int], most: int) -> None:
    files = {f"t{number}": f"f{number}" for number in range(len(sizes))}
    by_name = dict(zip(files.values(), sizes, strict=True))
    surplus = beyond(files, by_name, most)
    assert surplus == list(files)[: len(surplus)]
    left = sum(sizes[len(surplus) :])
    assert left <= most or len(surplus) == len(sizes)
    if surplus:
        assert left + sizes[len(surplus) - 1] > most, "one task fewer would have been too few"

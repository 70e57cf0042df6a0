"""Spool files are removed in one place, in a thread, in order, and without errors."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from captiond.errors import StorageFailed
from captiond.settings.config import Settings
from captiond.spool import FolderSpool, open_spool
from captiond.store import tasks
from captiond.store.engine import Engine
from captiond.supervisor import cleaner as cleaners
from captiond.supervisor.cleaner import NeededNames, SpoolCleaner
from tests.patience import PATIENCE
from tests.unit.supervised import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def working(
    spool: FolderSpool, needed: NeededNames, monotonic: Callable[[], float] = time.monotonic
) -> AsyncIterator[SpoolCleaner]:
    cleaner = SpoolCleaner(spool, needed, monotonic=monotonic)
    work = asyncio.create_task(cleaner.run())
    try:
        async with asyncio.timeout(PATIENCE):
            yield cleaner
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


@asynccontextmanager
async def cleaning(
    settings: Settings, engine: Engine, monotonic: Callable[[], float] = time.monotonic
) -> AsyncIterator[SpoolCleaner]:
    """A cleaner of the spool of these settings that works while the block runs."""
    spool = open_spool(settings)
    assert isinstance(spool, FolderSpool)
    needed = partial(tasks.needed_spool_names, engine)
    async with working(spool, needed, monotonic) as cleaner:
        yield cleaner


async def nothing() -> Collection[str]:
    return set()


async def only_b() -> Collection[str]:
    return {"web0-b"}


async def unreadable() -> Collection[str]:
    raise StorageFailed("the database cannot be read")


def write(folder: Path, *names: str, age: float = 0.0) -> None:
    moment = time.time() - age
    for name in names:
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (moment, moment))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_only_files_that_no_task_needs_are_removed(tmp_path: Path) -> None:
    write(tmp_path, "web0-a", "web0-b", "web0-c", "web1-d")
    async with working(FolderSpool(tmp_path), only_b) as cleaner:
        assert await cleaner.remove_unneeded(["web0-a", "web0-b"]) == 1
        assert names(tmp_path) == {"web0-b", "web0-c", "web1-d"}
        assert await cleaner.sweep("web0") == 1
        assert names(tmp_path) == {"web0-b", "web1-d"}
        assert await cleaner.sweep_at_start() == 1
        assert names(tmp_path) == {"web0-b"}


async def test_a_file_that_no_task_needs_is_removed_once_that_is_so_for_long(
    tmp_path: Path,
) -> None:
    """The times of the files say nothing: the clock may have jumped since they were written."""
    now = 1000.0
    write(tmp_path, "web0-a", age=99 * 86400.0)
    write(tmp_path, "web0-b", "web0-c.part", age=-99 * 86400.0)
    spool = FolderSpool(tmp_path)
    async with working(spool, only_b, monotonic=lambda: now) as cleaner:
        assert await cleaner.remove_orphans(grace=50) == 0
        write(tmp_path, "web0-young", age=99 * 86400.0)
        now += 49
        assert await cleaner.remove_orphans(grace=50) == 0
        now += 1
        assert await cleaner.remove_orphans(grace=50) == 2
        assert names(tmp_path) == {"web0-b", "web0-young"}


class SlowSpool(FolderSpool):
    """A file system on which a removal takes until it is allowed to finish."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_finish = threading.Event()
        self.threads: list[int] = []
        self.removed: list[list[str]] = []

    def remove(self, names: Iterable[str]) -> None:
        self.threads.append(threading.get_ident())
        assert self.may_finish.wait(PATIENCE)
        self.removed.append(list(names))


async def test_the_event_loop_goes_on_while_files_are_removed(tmp_path: Path) -> None:
    """`may_finish` is set by the event loop itself, after it has asked for the removals."""
    spool = SlowSpool(tmp_path)
    async with working(spool, nothing) as cleaner:
        for number in range(3):
            cleaner.remove([f"web0-{number}"])
        await asyncio.sleep(0)
        assert spool.removed == []
        spool.may_finish.set()
        await cleaner.finish()
    assert spool.removed == [["web0-0"], ["web0-1"], ["web0-2"]], "in the order of the calls"
    assert threading.get_ident() not in spool.threads


class BrokenSpool(FolderSpool):
    def total_size(self) -> int:
        raise OSError(5, "Input/output error")

    def sweep_at_start(self, keep: Collection[str]) -> int:
        raise OSError(5, "Input/output error")


async def test_failures_of_the_storage_reach_no_caller(tmp_path: Path) -> None:
    write(tmp_path, "web0-a")
    async with working(BrokenSpool(tmp_path), unreadable) as cleaner:
        assert await cleaner.sweep_at_start() == 0
        assert await cleaner.remove_unneeded(["web0-a"]) == 0
        assert await cleaner.remove(["web0-a"]) == 1, "it still works"
    assert names(tmp_path) == set()


class UnsteadySpool(FolderSpool):
    """A file system that fails at first. `sweeps` has the owner of each sweep."""

    def __init__(self, folder: Path, failures: int) -> None:
        super().__init__(folder)
        self.failures = failures
        self.sweeps: list[str | None] = []

    def sweep(self, keep: Collection[str], *, owner: str) -> int:
        self._begin(owner)
        return super().sweep(keep, owner=owner)

    def sweep_at_start(self, keep: Collection[str]) -> int:
        self._begin(None)
        return super().sweep_at_start(keep)

    def _begin(self, owner: str | None) -> None:
        self.sweeps.append(owner)
        if len(self.sweeps) <= self.failures:
            raise OSError(5, "Input/output error")


async def test_the_sweep_after_a_death_is_repeated_until_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaners, "FIRST_RETRY", 0.01)
    write(tmp_path, "web0-a", "web1-b")
    spool = UnsteadySpool(tmp_path, failures=3)
    async with working(spool, nothing) as cleaner:
        assert await cleaner.sweep("web0") == 0
        await until(lambda: names(tmp_path) == {"web1-b"})
    assert spool.sweeps == ["web0"] * 4


async def test_the_sweep_of_all_files_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for a start only: later, files of requests in progress are there."""
    monkeypatch.setattr(cleaners, "FIRST_RETRY", 0.001)
    spool = UnsteadySpool(tmp_path, failures=1)
    async with working(spool, nothing) as cleaner:
        assert await cleaner.sweep_at_start() == 0
        for name in ("a", "b"):
            await cleaner.sweep(name)
    assert spool.sweeps == [None, "a", "b"]


async def test_a_caller_that_is_cancelled_holds_up_nobody(tmp_path: Path) -> None:
    write(tmp_path, "web0-a")
    async with working(FolderSpool(tmp_path), nothing) as cleaner:
        cleaner.sweep("web1").cancel()
        assert await cleaner.remove(["web0-a"]) == 1

"""Object storage that fails at random while processes are killed: nothing accepted is lost."""

import asyncio
import random
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from captiond.settings.config import DataSettings, Settings
from captiond.spool import open_spool
from captiond.supervisor.cleaner import SpoolCleaner
from tests.faults.harness import Load, check, new_seed, progress, rounds, wait_for_the_end
from tests.s3server import S3Server, s3_server
from tests.service import FRESH, Service, query, running
from tests.wire import Wire, wire

ANSWERS = {"task 202", "task 503", "task 507", 200, 503, "connection broken"}
REFUSALS = ("503 SlowDown", "500 InternalError", "403 AccessDenied", "507 InsufficientStorage")


@pytest.fixture
def rng() -> random.Random:
    return random.Random(new_seed())


def test_a_bucket_fails_while_processes_are_killed(data: Path, rng: random.Random) -> None:
    load, times = Load(rng), rounds(3, 200)
    with s3_server() as server, wire(server.endpoint) as line:
        environ = server.environ(endpoint=line.endpoint)
        with running(data, "--workers", "2", **FRESH, **environ) as service:
            with load.on(service):
                for number in range(times):
                    disturb(service, line, rng)
                    progress(number + 1, times, "bucket")
            wait_for_the_end(service)
            assert service.stop() == 0
        left = server.names()
        remove_orphans(data, server)
        assert server.names() == set(), "an object that no sweep finds"
    assert set(load.ledger.answers) <= ANSWERS
    check(data, load.ledger, "object storage fails, processes are killed", rounds=times,
          orphans=len(left))  # fmt: skip


def disturb(service: Service, line: Wire, rng: random.Random) -> None:
    """Cut the wire or have requests refused for a while; perhaps kill a process meanwhile."""
    refusal, share = rng.choice(REFUSALS), rng.choice([0.3, 1.0])

    def refuses(method: str, path: str) -> str | None:
        return refusal if rng.random() < share else None

    is_cut = rng.random() < 0.5
    if is_cut:
        line.cut()
    else:
        line.rule = refuses
    time.sleep(rng.uniform(0, 1))
    if kind := rng.choice([*3 * ["web"], "model", *8 * [None]]):  # a model needs time to load
        for process in service.children(kind)[:1]:
            process.kill()
    time.sleep(rng.uniform(0, 1))
    if is_cut:
        line.repair()
    else:
        line.rule = lambda method, path: None
    time.sleep(rng.uniform(0, 1))


def remove_orphans(data: Path, server: S3Server) -> None:
    """Run the sweep that a service runs every hour, twice."""
    needed = {name for (name,) in query(data, "SELECT spool FROM tasks WHERE spool IS NOT NULL")}
    now = 0.0

    async def names() -> Collection[str]:
        return needed

    async def sweep() -> None:
        nonlocal now
        settings = Settings(data=DataSettings(dir=data), uploads=server.settings())
        cleaner = SpoolCleaner(open_spool(settings), names, monotonic=lambda: now)
        work = asyncio.create_task(cleaner.run())
        await cleaner.remove_orphans(grace=1)
        now = 2.0
        await cleaner.remove_orphans(grace=1)
        work.cancel()

    asyncio.run(sweep())

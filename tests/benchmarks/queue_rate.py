"""Measure how many images per second are claimed and finished through the store.

    python -m tests.benchmarks.queue_rate [--images 1000000] [--workers 2] [--server SETTING]...
    python -m tests.benchmarks.queue_rate --database sqlite
    python -m tests.benchmarks.queue_rate --images 1000000 --measured 100000

All images wait at the beginning, in tasks of 1,000. Each worker claims 32 images and stores their
results, again and again, as a model process and its supervisor do, in durable transactions.
Meanwhile another process polls the status of a task that is being worked on. Figures are printed
for each tenth of the images, so that a slope shows; at the end, the sizes of tables and indexes.
"""

import argparse
import asyncio
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from captiond.clients import Client
from captiond.databaseurl import DatabaseAddress
from captiond.jobs import Captioned, NewImage, NewTask, SpooledImage
from captiond.store import claims, consistency, tasks
from captiond.store.engine import Engine, make_engine
from captiond.store.maintenance import checkpoint
from captiond.store.migrate import prepare_database
from captiond.store.snapshots import read_counts, read_state
from tests.postgres import PostgresServer, postgres_server

BUILD = Path(__file__).parents[2] / "build"  # on a disk
OF_TASK, BATCH, TENTHS, TOGETHER = 1000, 32, 10, 20
CLIENTS = 10
CAPTION = Captioned("a dog that runs on a beach", ("beach", "dog"), "m", 640, 480, score=-0.4)
SERVER = ("shared_buffers=256MB", "max_wal_size=4GB", "checkpoint_timeout=15min")
POLL_SECONDS = 0.02
CHECKPOINT_SECONDS = 2.0


@dataclass(slots=True)
class Measured:
    """The seconds of claims and of stored results, when each batch ended, and processor time."""

    processor: float = 0.0
    claims: list[float] = field(default_factory=list)
    finishes: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)


def main() -> None:
    arguments = parse()
    with at_database(arguments.database, arguments.server) as (address, server):
        asyncio.run(fill(address, arguments.images))
        used = server.processor_seconds() if server is not None else 0.0
        measured = arguments.measured or arguments.images
        measure(address, measured, arguments.workers)
        if server is not None:
            wait_for_exits(server)
            used = (server.processor_seconds() - used) / measured
            show(f"processor time of the server: {used * 1e6:.0f} µs for each image")
            show_sizes(server, address.url.partition("/test")[2].partition("?")[0])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--measured", type=int, help="stop after so many; the others still wait")
    parser.add_argument("--workers", type=int, default=2, help="processes that claim and finish")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--server", action="append", default=[], help="a setting of the server")
    return parser.parse_args()


@contextmanager
def at_database(
    kind: str, settings: list[str]
) -> Iterator[tuple[DatabaseAddress, PostgresServer | None]]:
    if kind == "postgresql":
        with postgres_server((*SERVER, *settings)) as server:
            yield server.address(server.create_database()), server
        return
    BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="queue-", dir=BUILD))
    try:
        yield DatabaseAddress(folder / "captiond.db"), None
    finally:
        shutil.rmtree(folder)


async def fill(address: DatabaseAddress, images: int) -> None:
    """Accept all images, in tasks of OF_TASK images of CLIENTS clients."""
    engine = make_engine(address)
    await prepare_database(engine)
    some = tuple(
        NewImage(f"holiday-{n:04}.jpg", SpooledImage("spool", n, 100, "0" * 64))
        for n in range(OF_TASK)
    )
    begun = time.monotonic()
    for first in range(0, images // OF_TASK, TOGETHER):
        numbers = range(first, min(first + TOGETHER, images // OF_TASK))
        await tasks.create_tasks(engine, [new_task(number, some) for number in numbers])
        await checkpoint(engine)
    show(f"{images} images accepted: {images / (time.monotonic() - begun):,.0f} images/s")
    await engine.dispose()


def new_task(number: int, images: tuple[NewImage, ...]) -> NewTask:
    client = Client(f"address:10.0.0.{number % CLIENTS}")
    return NewTask(f"task_{number:032}", "spool", images, 1.0 + number, client=client)


# ---------------------------------------------------------------- the processes


def measure(address: DatabaseAddress, images: int, workers: int) -> None:
    """Run the workers and the poller, and print what they measured."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[Measured | list[float]] = context.Queue()
    polls: multiprocessing.Queue[list[float]] = context.Queue()
    over = context.Event()
    processes = [
        context.Process(target=work, args=(address, f"node{number}/m", images // workers, results))
        for number in range(workers)
    ]
    poller = context.Process(target=poll, args=(address, images // OF_TASK, over, polls))
    begun = time.monotonic()
    for process in (*processes, poller):
        process.start()
    measured = [results.get() for _ in processes]
    over.set()
    statuses = polls.get()
    for process in (*processes, poller):
        process.join()
    parts = [each for each in measured if isinstance(each, Measured)]
    report(parts, statuses, begun)


def work(
    address: DatabaseAddress, owner: str, images: int, results: "multiprocessing.Queue[Measured]"
) -> None:
    results.put(asyncio.run(claim_and_finish(address, owner, images)))


async def claim_and_finish(address: DatabaseAddress, owner: str, images: int) -> Measured:
    engine, measured = make_engine(address), Measured()
    await read_state(engine, "none")  # a connection is open, and all modules are imported
    used = time.process_time()
    checkpoints = asyncio.create_task(checkpoint_forever(engine)) if owner == "node0/m" else None
    while len(measured.batches) * BATCH < images:
        begun = time.monotonic()
        taken = (await claims.claim(engine, BATCH, owner=owner, now=2.0)).claims
        if not taken:
            break
        measured.claims.append(time.monotonic() - begun)
        begun = time.monotonic()
        outcomes = [claims.ImageOutcome(one.image_id, one.attempt, CAPTION) for one in taken]
        stored = await claims.finish(engine, outcomes, now=3.0)
        measured.finishes.append(time.monotonic() - begun)
        measured.batches.append(time.monotonic())
        assert len(stored) == len(taken)
    measured.processor = time.process_time() - used
    if checkpoints is not None:
        checkpoints.cancel()
    await engine.dispose()
    return measured


async def checkpoint_forever(engine: Engine) -> None:
    while True:
        await asyncio.sleep(CHECKPOINT_SECONDS)
        await checkpoint(engine)


def poll(
    address: DatabaseAddress,
    number: int,
    over: "multiprocessing.synchronize.Event",
    polls: "multiprocessing.Queue[list[float]]",
) -> None:
    polls.put(asyncio.run(poll_until(address, number, over)))


async def poll_until(
    address: DatabaseAddress, number: int, over: "multiprocessing.synchronize.Event"
) -> list[float]:
    """Read the state and the numbers of one task after the other, as a status does."""
    engine, seconds = make_engine(address), list[float]()
    while not over.is_set():
        task_id = f"task_{len(seconds) % number:032}"
        begun = time.monotonic()
        await read_state(engine, task_id)
        await read_counts(engine, task_id)
        seconds.append(time.monotonic() - begun)
        await asyncio.sleep(POLL_SECONDS)
    problems = await consistency.contradictions(engine)
    assert problems == [], problems[:3]
    await engine.dispose()
    return seconds


# ---------------------------------------------------------------- what is printed


def report(parts: list[Measured], statuses: list[float], begun: float) -> None:
    taken = sorted(
        (end, claim, finish)
        for part in parts
        for end, claim, finish in zip(part.batches, part.claims, part.finishes, strict=True)
    )
    first = taken[0][0] - taken[0][1] - taken[0][2]
    show(f"started after {first - begun:.1f} s")
    tenth = max(1, len(taken) // TENTHS)
    before = first
    for number in range(TENTHS):
        some = taken[number * tenth : (number + 1) * tenth if number < TENTHS - 1 else None]
        rate = len(some) * BATCH / (some[-1][0] - before)
        before = some[-1][0]
        show(
            f"tenth {number + 1}: {rate:,.0f} images/s, claim {times([each[1] for each in some])}, "
            f"results {times([each[2] for each in some])}"
        )
    show(f"all: {len(taken) * BATCH / (taken[-1][0] - first):,.0f} images/s")
    processor = sum(part.processor for part in parts) / len(taken) / BATCH
    show(f"processor time of the workers: {processor * 1e6:.0f} µs for each image")
    show(f"claim {times([each[1] for each in taken])}")
    show(f"results {times([each[2] for each in taken])}")
    half = len(statuses) // 2
    show(f"status {times(statuses)}; second half {times(statuses[half:])}")


def times(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    parts = {"median": 0.5, "p99": 0.99, "most": 1.0}
    values = {name: ordered[int(part * (len(ordered) - 1))] for name, part in parts.items()}
    return ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in values.items())


SIZES = """
SELECT relname, n_live_tup, n_dead_tup, pg_table_size(relid), pg_indexes_size(relid),
       autovacuum_count
FROM pg_stat_user_tables WHERE relname IN ('images', 'tasks', 'turns', 'nodes') ORDER BY 1
"""


def show_sizes(server: PostgresServer, suffix: str) -> None:
    """Print sizes as the run leaves them, and what a fresh copy of the table needs."""
    name = f"test{suffix}"
    for table, live, dead, size, indexes, vacuums in server.execute(SIZES, name):
        show(
            f"{table}: {live} rows, {dead} dead, table {mb(size)}, indexes {mb(indexes)}, "
            f"{vacuums} autovacuums"
        )
    server.execute("VACUUM FULL images", name)
    for table, _, _, size, indexes, _ in server.execute(SIZES, name):
        if table == "images":
            show(f"{table} rewritten: table {mb(size)}, indexes {mb(indexes)}")


def wait_for_exits(server: PostgresServer) -> None:
    """Wait until the server has counted the time of the processes for our connections."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    while server.execute(others) != [(1,)]:
        time.sleep(POLL_SECONDS)


def mb(size: object) -> str:
    return f"{int(str(size)) / 1e6:.1f} MB"


def show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

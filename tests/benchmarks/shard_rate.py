"""Measure how many shards of imports are claimed and finished through the store.

    python -m tests.benchmarks.shard_rate [--shards 1000] [--imports 1] [--workers 2]

Each worker claims a shard of 500 images, makes sure of the claim and finishes the shard, again and
again, as a model process does, without reading or captioning an image. Shards of one import wait
for each other when they are claimed and finished: its row counts them.
"""

import argparse
import asyncio
import multiprocessing
import time
from dataclasses import dataclass, field

from captiond.databaseurl import DatabaseAddress
from captiond.store import queued_shards, shards
from captiond.store.engine import make_engine
from captiond.store.migrate import prepare_database
from captiond.store.shard_claims import finish_shard
from captiond.store.shards import NewImport
from tests.benchmarks.queue_rate import at_database, show, times, wait_for_exits

IMAGES = 500
ADDED_AT_ONCE = 20


@dataclass
class WorkerTimes:
    """When a worker began and ended, and the seconds of each shard."""

    begun: float
    ended: float = 0.0
    seconds: list[float] = field(default_factory=list)


async def fill(address: DatabaseAddress, imports: int, number: int) -> None:
    engine = make_engine(address)
    await prepare_database(engine)
    addresses = [f"s3://bucket/photos/2024/IMG_{n:06}.jpg" for n in range(IMAGES)]
    for each in range(imports):
        name = f"import_{each}"
        new = NewImport(name, ("s3://bucket",), "uri", f"s3://{name}", "jsonl", IMAGES, 1.0, True)
        await shards.join_import(engine, new)
        assert await shards.begin_listing(engine, name, "lister")
        for _ in range(0, number // imports, ADDED_AT_ONCE):
            await shards.add_shards(engine, name, "lister", [addresses] * ADDED_AT_ONCE)
        await shards.end_listing(engine, name, "lister", now=2.0)
    await engine.dispose()


def work(address: DatabaseAddress, owner: str, done: "multiprocessing.Queue[WorkerTimes]") -> None:
    done.put(asyncio.run(claim_and_finish(address, owner)))


async def claim_and_finish(address: DatabaseAddress, owner: str) -> WorkerTimes:
    engine = make_engine(address)
    await shards.newest_imports(engine, 1)  # a connection is open
    measured = WorkerTimes(time.monotonic())
    begun = measured.begun
    while (shard := await queued_shards.claim_next(engine, owner)) is not None:
        assert await queued_shards.hold(engine, [shard.claim])
        assert await finish_shard(engine, shard.claim, captioned=IMAGES, failed=0, now=3.0)
        measured.ended = time.monotonic()
        measured.seconds.append(measured.ended - begun)
        begun = measured.ended
    await engine.dispose()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--imports", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with at_database("postgresql", []) as (address, server):
        assert server is not None
        asyncio.run(fill(address, given.imports, given.shards))
        done: multiprocessing.Queue[WorkerTimes] = context.Queue()
        used = server.processor_seconds()
        processes = [
            context.Process(target=work, args=(address, f"node{number}/model0", done))
            for number in range(given.workers)
        ]
        for process in processes:
            process.start()
        measured = [done.get() for _ in processes]
        for process in processes:
            process.join()
        wait_for_exits(server)
        used = server.processor_seconds() - used
    seconds = max(each.ended for each in measured) - min(each.begun for each in measured)
    number = sum(len(each.seconds) for each in measured)
    show(f"{number / seconds:,.0f} shards/s, {number * IMAGES / seconds:,.0f} images/s")
    show(f"a shard {times([each for part in measured for each in part.seconds])}")
    show(f"processor time of the server: {used / number * 1e3:.2f} ms for each shard")


if __name__ == "__main__":
    main()

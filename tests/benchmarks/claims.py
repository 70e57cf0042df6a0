"""Measure how long a claim takes while 1,000,000 images wait.

    python -m tests.benchmarks.claims

A claim takes 24 images, which are three batches of 8, in one durable transaction.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from captiond.clients import Client
from captiond.jobs import NewImage, NewTask, SpooledImage
from captiond.store import claims, tasks
from captiond.store.engine import Engine, make_engine
from captiond.store.maintenance import checkpoint
from captiond.store.migrate import prepare_database

BUILD = (
    Path(__file__).parents[2] / "build"
)  # on a disk, which a folder for temporary files may not be
IMAGES = 1_000_000
TOGETHER = 20_000  # images that are accepted in one transaction
CLAIMED, CLAIMS = 24, 100


async def main() -> None:
    BUILD.mkdir(exist_ok=True)
    for clients, images in ((1, 20_000), (1, 1), (1_000, 1_000), (1_000, 1)):
        folder = Path(tempfile.mkdtemp(prefix="claims-", dir=BUILD))
        engine = make_engine(folder / "captiond.db")
        try:
            await prepare_database(engine)
            await fill(engine, clients, images)
            show(f"{clients} clients, tasks of {images} images", *await measure(engine))
        finally:
            await engine.dispose()
            shutil.rmtree(folder)


async def fill(engine: Engine, clients: int, images: int) -> None:
    """Accept IMAGES images in tasks of so many images, for one client after the other."""
    some = tuple(
        NewImage("holiday-0001.jpg", SpooledImage("spool", n, 100, "0" * 64)) for n in range(images)
    )
    numbers = range(IMAGES // images)
    step = max(1, TOGETHER // images)
    for first in numbers[::step]:
        made = [new_task(n, n % clients, some) for n in numbers[first : first + step]]
        await tasks.create_tasks(engine, made)
    await checkpoint(engine)


def new_task(number: int, client: int, images: tuple[NewImage, ...]) -> NewTask:
    name = f"task_{number:032}"
    return NewTask(name, name, images, 1.0 + number, client=Client(f"address:10.0.0.{client}"))


async def measure(engine: Engine) -> tuple[list[float], list[float]]:
    """Return the seconds that each of CLAIMS claims takes, and its processor time in seconds."""
    seconds, processor = [], []
    for _ in range(CLAIMS):
        begun, used = time.monotonic(), time.process_time()
        taken = (await claims.claim(engine, CLAIMED, owner="node/model", now=2.0)).claims
        seconds.append(time.monotonic() - begun)
        processor.append(time.process_time() - used)
        assert len(taken) == CLAIMED
    return sorted(seconds), sorted(processor)


def show(name: str, seconds: list[float], processor: list[float]) -> None:
    sys.stdout.write(
        f"{name}: median {ms(seconds, 0.5)}, longest {ms(seconds, 1)}, processor time median "
        f"{ms(processor, 0.5)}\n"
    )
    sys.stdout.flush()


def ms(times: list[float], part: float) -> str:
    return f"{times[int(part * (len(times) - 1))] * 1000:.1f} ms"


if __name__ == "__main__":
    asyncio.run(main())

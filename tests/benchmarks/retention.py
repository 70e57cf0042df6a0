"""Measure how long a write waits while 100,000 rows of the database are being deleted.

    python -m tests.benchmarks.retention

During the deletion, another connection accepts tasks, as a web process does.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from captiond.jobs import Captioned, NewImage, NewTask, Refused, SpooledImage
from captiond.store import captions, expiry, tasks
from captiond.store.backend import BEGIN
from captiond.store.engine import Engine, make_engine, writing
from captiond.store.maintenance import checkpoint
from captiond.store.migrate import prepare_database
from captiond.store.tasks import insert_images, insert_tasks
from captiond.supervisor.retention import ROWS, little_by_little
from captiond.supervisor.supervisor import CHECKPOINT_SECONDS

TOTAL = 100_000
CAPTION = Captioned(
    "a red boat to the left of a yellow sun", ("boat", "red boat", "sun"), "m", 9, 9
)
REFUSED = Refused("the file is not an image that captiond knows", "not_an_image")


async def main() -> None:
    for images in (1, 100, 10_000):
        fill = partial(fill_tasks, images=images)
        await measure(f"tasks of {images} images", fill, delete_tasks)
    await measure("captions", fill_captions, delete_captions)


async def fill_tasks(engine: Engine, images: int) -> None:
    """Insert tasks whose images were all refused: such tasks are finished without a model."""
    image = NewImage("holiday-0001.jpg", None, REFUSED)
    for first in range(0, TOTAL, 10_000):
        numbers = range(first, first + 10_000, images)
        made = [NewTask(f"task_{n:032}", None, (image,) * images, 1.0 + n) for n in numbers]
        async with writing(engine) as connection:
            await insert_tasks(connection, made)
            await insert_images(connection, made)


async def fill_captions(engine: Engine) -> None:
    for first in range(0, TOTAL, 10_000):
        entries = {captions.cache_key(str(n), "r"): CAPTION for n in range(first, first + 10_000)}
        await captions.remember(engine, entries, now=float(first))


async def delete_tasks(engine: Engine) -> int:
    return await expiry.delete_finished(engine, before=1e9, images=ROWS)


async def delete_captions(engine: Engine) -> int:
    return await expiry.delete_oldest_captions(engine, ROWS)


async def measure(
    name: str,
    fill: Callable[[Engine], Awaitable[None]],
    delete: Callable[[Engine], Awaitable[int]],
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="retention-", dir="."))
    engine, other = (make_engine(folder / "captiond.db") for _ in range(2))
    try:
        await prepare_database(engine)
        await fill(engine)
        alone = await waits(other, asyncio.sleep(3))
        deletions = held(engine)
        beside = await waits(other, delete_all(engine, delete))
        show(name, deletions, alone, beside)
    finally:
        await engine.dispose()
        await other.dispose()
        shutil.rmtree(folder)


def held(engine: Engine) -> list[float]:
    """Return a list that gets the seconds for which each later write holds the lock."""
    times: list[float] = []
    begun: dict[int, float] = {}

    def on_begin(connection: Connection) -> None:
        if BEGIN not in connection.get_execution_options():
            begun[id(connection.connection.dbapi_connection)] = time.monotonic()

    def on_checkin(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        if id(connection) in begun:
            times.append(time.monotonic() - begun.pop(id(connection)))

    event.listen(engine.sql.sync_engine, "begin", on_begin)
    event.listen(engine.sql.sync_engine, "checkin", on_checkin)
    return times


async def delete_all(engine: Engine, delete: Callable[[Engine], Awaitable[int]]) -> None:
    """Delete as the supervisor does, with its checkpoints."""

    async def checkpoint_forever() -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            await checkpoint(engine)

    checkpointing = asyncio.create_task(checkpoint_forever())
    await little_by_little(lambda: delete(engine))
    checkpointing.cancel()


async def waits(engine: Engine, while_: Awaitable[None]) -> list[float]:
    """Return the seconds that each of many small writes takes while `while_` runs."""
    seconds: list[float] = []

    async def write() -> None:
        image = NewImage("a.jpg", SpooledImage("spool", 0, 100, "0" * 64))
        while True:
            begun = time.monotonic()
            name = f"new_{time.monotonic_ns()}"
            await tasks.create_task(engine, NewTask(name, name, (image,), 1.0))
            seconds.append(time.monotonic() - begun)
            await asyncio.sleep(0.005)

    writing_ = asyncio.create_task(write())
    await while_
    writing_.cancel()
    with suppress(asyncio.CancelledError):
        await writing_
    return seconds


def show(name: str, deletions: list[float], alone: list[float], beside: list[float]) -> None:
    sys.stdout.write(
        f"{name}: {len(deletions)} deletions hold the lock, median {ms(deletions, 0.5)}, longest "
        f"{ms(deletions, 1)}; a client's write: alone median {ms(alone, 0.5)} longest "
        f"{ms(alone, 1)}, beside it median {ms(beside, 0.5)}, 99 % {ms(beside, 0.99)}, longest "
        f"{ms(beside, 1)}\n"
    )


def ms(times: list[float], part: float) -> str:
    return f"{sorted(times)[int(part * (len(times) - 1))] * 1000:.1f} ms"


if __name__ == "__main__":
    asyncio.run(main())

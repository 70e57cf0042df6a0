"""Count the statements that the database gets for a batch of images.

    python -m tests.benchmarks.queue_statements

One task of 64 images is accepted on each database, its images are claimed in batches of 32, their
results are stored, and its status is read. Each statement is one round trip, with BEGIN and COMMIT.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import event

from captiond.databaseurl import DatabaseAddress
from captiond.jobs import NewImage, NewTask, SpooledImage
from captiond.store import claims, leases, tasks
from captiond.store.engine import make_engine
from captiond.store.migrate import prepare_database
from captiond.store.snapshots import read_counts, read_state
from tests.benchmarks.queue_rate import BATCH, CAPTION
from tests.postgres import postgres_server

IMAGES = tuple(NewImage(f"{n}.jpg", SpooledImage("s", n, 9, "sha")) for n in range(2 * BATCH))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(count("SQLite", DatabaseAddress(Path(folder) / "captiond.db")))
    with postgres_server() as server:
        asyncio.run(count("PostgreSQL", server.address(server.create_database())))


async def count(name: str, address: DatabaseAddress) -> None:
    engine, seen = make_engine(address), list[str]()
    await prepare_database(engine)
    listen(engine.sql.sync_engine, seen)

    async def show(what: str, action: Callable[[], Awaitable[object]]) -> None:
        seen.clear()
        await action()
        sys.stdout.write(f"{name}: {what}: {len(seen)} round trips\n")

    claimed: list[claims.Claim] = []

    async def claim() -> None:
        claimed[:] = (await claims.claim(engine, BATCH, owner="node/m", now=2.0)).claims

    async def finish() -> None:
        outcomes = [claims.ImageOutcome(one.image_id, one.attempt, CAPTION) for one in claimed]
        await claims.finish(engine, outcomes, now=3.0)

    async def status() -> None:
        await read_state(engine, "task")
        await read_counts(engine, "task")

    task = NewTask("task", "s", IMAGES, 1.0)
    await show(f"a task of {len(IMAGES)} images", lambda: tasks.create_task(engine, task))
    await show(f"the first claim of {BATCH} images", claim)
    await show(f"the results of {BATCH} images", finish)
    await show(f"another claim of {BATCH} images", claim)
    await show(f"the last results of {BATCH} images", finish)
    await show("a status without results", status)
    await show("a renewal of the lease", lambda: leases.renew(engine, "node"))
    await engine.dispose()


def listen(engine: object, seen: list[str]) -> None:
    """Collect the statements that a pool of connections sends, with the end of each transaction."""
    is_open = [False]

    def note(*arguments: object) -> None:
        seen.append(str(arguments[2]))
        is_open[0] |= seen[-1].startswith("BEGIN")

    def end(_: object) -> None:
        if is_open[0]:  # without a transaction, the driver sends nothing
            seen.append("COMMIT")
        is_open[0] = False

    event.listen(engine, "before_cursor_execute", note)
    for name in ("commit", "rollback"):
        event.listen(engine, name, end)


if __name__ == "__main__":
    main()

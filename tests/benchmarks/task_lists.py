"""Measure GET /tasks with a million tasks: python -m tests.benchmarks.task_lists

The statements of a list are timed in a database of a million tasks of one image, and a hundred of
10,000 images, which are the newest ones. It takes 2 GB of the disk.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from captiond.jobs import Status
from captiond.store.engine import Engine, make_engine
from captiond.store.listing import ListPlace, newest_tasks
from captiond.store.migrate import prepare_database

SMALL, LARGE, IMAGES = 1_000_000, 100, 10_000
TIMES = 9
LISTS: dict[str, dict[str, Any]] = {
    "100 tasks of 1 image, in the middle of all": {"after": ListPlace(SMALL / 2, "")},
    "the same, of one of 10 clients": {"client": "key:3", "after": ListPlace(SMALL / 2, "")},
    "the same, of a client and a status": {
        "client": "key:3",
        "status": Status.COMPLETED,
        "after": ListPlace(SMALL / 2, ""),
    },
    "a status that no task has": {"status": Status.FAILED},
    "100 tasks of 10,000 images": {},
}
TASKS = """INSERT INTO tasks (id, status, created_at, finished_at, client)
    VALUES (?, 'COMPLETED', ?, 1, ?)"""
IMAGE_ROWS = """INSERT INTO images (task_id, position, filename, offset, size, status, attempt,
    blame, revision, result) VALUES (?, ?, 'a.png', 0, 9, 'COMPLETED', 1, 0, 1, ?)"""
RESULT = json.dumps({"caption": "a red boat to the left of a yellow sun", "tags": ["boat"] * 50})


def fill(path: Path) -> None:
    """Add the tasks, whose images all have a caption."""
    small = [(f"small_{n:032}", float(n), f"key:{n % 10}") for n in range(SMALL)]
    large = [(f"large_{n:032}", float(SMALL + n), "key:0") for n in range(LARGE)]
    database = sqlite3.connect(path)
    database.execute("PRAGMA synchronous = OFF")
    database.executemany(TASKS, small + large)
    database.executemany(IMAGE_ROWS, ((each[0], 0, RESULT) for each in small))
    database.executemany(IMAGE_ROWS, rows([each[0] for each in large]))
    database.commit()
    database.close()


def rows(task_ids: list[str]) -> Iterator[tuple[str, int, str]]:
    for task_id in task_ids:
        yield from ((task_id, position, RESULT) for position in range(IMAGES))


async def milliseconds(engine: Engine, **asked: Any) -> float:
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        await newest_tasks(engine, 101, **asked)
        taken.append(time.perf_counter() - begun)
    return 1000 * median(taken)


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "captiond.db"
        engine = make_engine(path)
        await prepare_database(engine)
        await asyncio.to_thread(fill, path)
        sys.stdout.write("| list | median |\n|---|---|\n")
        for name, asked in LISTS.items():
            sys.stdout.write(f"| {name} | {await milliseconds(engine, **asked):.1f} ms |\n")
        with sqlite3.connect(path) as database:
            database.execute(
                "UPDATE images SET status = 'FAILED' WHERE task_id > 'large' AND task_id < 'small'"
            )
        taken = await milliseconds(engine)
        sys.stdout.write(f"| 100 tasks of 10,000 images, all of which failed | {taken:.1f} ms |\n")
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())

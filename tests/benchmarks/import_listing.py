"""Measure the listing of an import: objects a second, memory, and the size of the database.

python -m tests.benchmarks.import_listing [--objects 1000000] [--shard-images 500]

The listing is that of `captiond import`, into a real database. Only the server is replaced: its
pages are made here, of names that are as long as those of photographs usually are.
"""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from captiond.bulk.importing import ImportRun, list_shards
from captiond.references import manifests
from captiond.references.shard_files import ShardFiles
from captiond.store.engine import make_engine
from captiond.store.migrate import prepare_database
from captiond.store.shards import NewImport, join_import, read_import

KILOBYTE = 1024


class LongListing:
    """Object storage that has so many objects, a thousand on a page."""

    def __init__(self, objects: int) -> None:
        self._objects = objects

    def list(self, prefix: str, *, chunk_size: int) -> Iterator[list[dict[str, object]]]:
        for begin in range(0, self._objects, chunk_size):
            yield [
                {"path": f"{prefix}/2026/11/27/IMG_{number:010}_edited.jpg", "size": 4_000_000}
                for number in range(begin, min(begin + chunk_size, self._objects))
            ]


async def measure(objects: int, shard_images: int, database: Path) -> None:
    engine = make_engine(database)
    await prepare_database(engine)
    new = NewImport(
        "import_1", ("s3://bucket/photos",), "uri", "/results", "jsonl", shard_images, time.time()
    )
    state = await join_import(engine, new)
    run = ImportRun(engine, state, "benchmark", ShardFiles("/results", "jsonl"), lambda _: None)
    before, begun = memory(), time.perf_counter()
    with patch.object(manifests, "bucket_store", lambda _: LongListing(objects)):
        await list_shards(run)
    seconds = time.perf_counter() - begun
    state = await read_import(engine, "import_1")
    await engine.dispose()
    assert (state.images, state.listed) == (objects, True)
    figures = {
        "objects": objects,
        "shards": state.shards,
        "objects_per_second": round(objects / seconds),
        "memory_mb": round(memory() / KILOBYTE),
        "of_it_before_mb": round(before / KILOBYTE),
        "database_bytes_per_object": round(size_of(database) / objects, 1),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def memory() -> int:
    """Return the largest resident memory of this process so far, in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def size_of(database: Path) -> int:
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--shard-images", type=int, default=500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "captiond.db"
        asyncio.run(measure(given.objects, given.shard_images, database))


if __name__ == "__main__":
    main()

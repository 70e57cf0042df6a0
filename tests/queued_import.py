"""An import that a running service works at. It is listed in the test's own process."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from captiond.bulk.importing import ImportRun, queue_import
from captiond.databaseurl import DatabaseAddress
from captiond.references.shard_files import ShardFiles
from captiond.store.engine import make_engine
from captiond.store.shards import NewImport, join_import
from tests.conftest import png
from tests.service import Service, wait_for


class QueuedImport:
    """`images` images in a folder, of which `shard` make a shard. Their pixels begin with `first`.

    It writes to another folder beside the first one.
    """

    def __init__(
        self,
        service: Service,
        folder: Path,
        images: int,
        *,
        shard: int,
        first: int = 0,
        callback_url: str | None = None,
    ) -> None:
        self._client: httpx.Client = service.client
        self._output = folder / "captions"
        self.photos = folder / "photos"
        self.photos.mkdir(parents=True)
        self.names = [f"{number:04}.png" for number in range(images)]
        for number, name in enumerate(self.names, first):
            (self.photos / name).write_bytes(png(number))
        self.id = f"import_1785000000_{folder.name}"
        new = NewImport(
            self.id,
            (str(self.photos),),
            "uri",
            str(self._output),
            "jsonl",
            shard,
            1.0,
            queued=True,
            callback_url=callback_url,
        )
        asyncio.run(self._list(DatabaseAddress(service.data / "captiond.db"), new))

    async def _list(self, address: DatabaseAddress, new: NewImport) -> None:
        engine = make_engine(address)
        files = ShardFiles(new.output, new.form)
        state = await join_import(engine, new)
        await queue_import(ImportRun(engine, state, "test", files, lambda _: None))
        await engine.dispose()

    def shown(self) -> dict[str, Any]:
        """Return the import as the service shows it."""
        response = self._client.get(f"/imports/{self.id}")
        assert response.status_code == 200, response.text
        item: dict[str, Any] = response.json()
        return item

    def finished(self) -> dict[str, Any]:
        """Wait until the import is finished, and return it."""

        def finished() -> dict[str, Any] | None:
            item = self.shown()
            return item if item["finished_at"] else None

        return wait_for(finished, f"the end of {self.id}")

    def rows(self) -> list[dict[str, Any]]:
        """Return all results, in the order of the shards."""
        parts = sorted(self._output.glob("part-*.jsonl"))
        return [json.loads(line) for part in parts for line in part.read_text().splitlines()]

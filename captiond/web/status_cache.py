"""Encoded task statuses, kept in memory until the task changes.

Clients poll. The status of a task of 10,000 images is 7 MB of JSON, so building it takes about half
a second. It is therefore built in a thread, and only if the task has changed since the last poll.
"""

import asyncio
from collections import OrderedDict

from captiond.store.engine import Engine
from captiond.store.snapshots import TaskSnapshot, TaskVersion, read_snapshot
from captiond.web.schemas import encoded_status

MAX_BYTES = 32 * 1024 * 1024
SMALL_TASK = 50  # images; the status of a smaller task takes less time than a thread is worth

Entry = tuple[TaskVersion, bytes]


class StatusCache:
    """Builds the JSON of task statuses, and keeps the most recently used ones."""

    def __init__(self, engine: Engine, max_bytes: int = MAX_BYTES) -> None:
        self._engine = engine
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0
        self._large = asyncio.Lock()  # polls of one large task must not all build its status

    async def status(self, task_id: str) -> bytes | None:
        """Return the status of a task as JSON, or None if there is no such task.

        Raises:
            StoreError: the database cannot be read now.
        """
        known = self._entry(task_id)
        snapshot = await read_snapshot(
            self._engine, task_id, known=known and known[0], limit=SMALL_TASK
        )
        if snapshot is None:
            self._remove(task_id)
            return None
        if snapshot.images is not None:
            return self._keep(snapshot, encoded_status(snapshot.view()))
        if known is not None and known[0] == snapshot.version:
            return known[1]
        async with self._large:
            return await self._large_status(task_id)

    async def _large_status(self, task_id: str) -> bytes | None:
        known = self._entry(task_id)
        snapshot = await read_snapshot(self._engine, task_id, known=known and known[0])
        if snapshot is None:
            return None
        if snapshot.images is None:
            assert known is not None  # only a known version is returned without its images
            return known[1]
        body = await asyncio.to_thread(lambda: encoded_status(snapshot.view()))
        return self._keep(snapshot, body)

    def _entry(self, task_id: str) -> Entry | None:
        if task_id in self._entries:
            self._entries.move_to_end(task_id)
        return self._entries.get(task_id)

    def _keep(self, snapshot: TaskSnapshot, body: bytes) -> bytes:
        self._remove(snapshot.id)
        self._entries[snapshot.id] = snapshot.version, body
        self._bytes += len(body)
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
        return body

    def _remove(self, task_id: str) -> None:
        _, body = self._entries.pop(task_id, (None, b""))
        self._bytes -= len(body)

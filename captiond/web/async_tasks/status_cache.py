"""Encoded task statuses, kept in memory: clients poll, and a status may be large.

A poll of a task that has not changed since the last one reads one row of the database. If it has
changed, only the images from the first open one on are read and encoded, in a thread if there are
many of them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from functools import partial
from weakref import WeakValueDictionary

from captiond.jobs import TaskState
from captiond.store.engine import Engine
from captiond.store.snapshots import TaskSnapshot, read_snapshot, read_state
from captiond.web.async_tasks.encoded_task import (
    EncodedStatus,
    EncodedTask,
    Page,
    encoded_page,
    encoded_task,
    etag_of,
)
from captiond.web.async_tasks.queue_place import QueuePlace, QueuePlaces

MAX_BYTES = 32 * 1024 * 1024
FEW_IMAGES = 50  # fewer take less time to encode than a thread is worth
PACE_SECONDS = 0.001  # between two pieces, for each other status that is being sent


class StatusCache:
    """Builds the JSON of task statuses, and keeps the most recently used ones.

    The last one is kept even if it alone is larger than `max_bytes`.
    """

    def __init__(
        self, engine: Engine, places: QueuePlaces | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        self._engine = engine
        self._places = places
        self._max_bytes = max_bytes
        self._tasks: OrderedDict[str, EncodedTask] = OrderedDict()
        # Polls of one task must not all build its status.
        self._building: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._streams = 0

    async def etag(self, task_id: str, page: Page | None = None) -> str | None:
        """Return the entity tag of a task's status now, or None if there is no such task.

        Raises:
            StoreError: The database cannot be read now.
        """
        state = await read_state(self._engine, task_id)
        return None if state is None else etag_of(state, page, await self._place(state))

    async def status(self, task_id: str, page: Page | None = None) -> EncodedStatus | None:
        """Return the status of a task, or None if there is no such task.

        With a `page`, it has only the results of these images.

        Raises:
            StoreError: The database cannot be read now.
        """
        if page is not None and page.limit <= FEW_IMAGES:
            snapshot = await read_snapshot(
                self._engine, task_id, first=page.offset, limit=page.limit
            )
            if snapshot is None:
                return None
            return encoded_page(snapshot, page, await self._place(snapshot.state))
        lock = self._building.setdefault(task_id, asyncio.Lock())
        async with lock:
            task = await self._present(task_id)
        if task is None:
            return None
        place = await self._place(task.state)
        return task.status(place) if page is None else task.page(page, place)

    async def pieces(self, status: EncodedStatus) -> AsyncIterator[bytes]:
        """Yield a body in pieces. While several are sent, each leaves time for other requests."""
        self._streams += 1
        try:
            for number, piece in enumerate(status.pieces()):
                if number > 0 and self._streams > 1:
                    await asyncio.sleep(PACE_SECONDS * (self._streams - 1))
                yield piece
        finally:
            self._streams -= 1

    async def _place(self, state: TaskState) -> QueuePlace | None:
        return None if self._places is None else await self._places.place(state)

    async def _present(self, task_id: str) -> EncodedTask | None:
        """Return the task as it is now, of which only what is new is read and encoded."""
        known = self._tasks.get(task_id)
        state = await read_state(self._engine, task_id)
        if known is not None and known.state == state:
            self._tasks.move_to_end(task_id)
            return known
        first = known.first_open if known else 0
        snapshot = await read_snapshot(self._engine, task_id, first=first) if state else None
        if snapshot is None:
            self._tasks.pop(task_id, None)
            return None
        return self._keep(await encode(snapshot, known))

    def _keep(self, task: EncodedTask) -> EncodedTask:
        self._tasks[task.state.id] = task
        self._tasks.move_to_end(task.state.id)
        total = sum(each.size for each in self._tasks.values())
        while total > self._max_bytes and len(self._tasks) > 1:
            total -= self._tasks.popitem(last=False)[1].size
        return task


async def encode(snapshot: TaskSnapshot, earlier: EncodedTask | None) -> EncodedTask:
    """Encode what is new, in a thread if it is much."""
    if len(snapshot.images) <= FEW_IMAGES:
        return encoded_task(snapshot, earlier)
    return await asyncio.to_thread(partial(encoded_task, snapshot, earlier, pause=True))

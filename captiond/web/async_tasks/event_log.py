"""The events of tasks as bytes. What is read and encoded once is sent to every client.

A client has no queue of its own: it knows the place of the last result that it has, and asks for
what follows. A client that falls behind therefore takes no memory, it gets the next part from the
database.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from captiond.jobs import ImageView, Status, TaskState
from captiond.store.engine import Engine
from captiond.store.history import Place, StoredResult, results_after
from captiond.store.results import image_view
from captiond.store.snapshots import read_counts
from captiond.web.async_tasks.encoded_task import is_final
from captiond.web.schemas import encoded, image_result
from captiond.web.task_schemas import TaskItem, task_item

RESULTS = 100  # of a part; to encode them takes a few milliseconds
MAX_BYTES = 8 * 1024 * 1024
# What a part takes beside its data. A client can ask for what follows any place, so there may be
# thousands of empty parts.
PART_BYTES = 1024
END = 2**62  # the position of the `end` event in its revision: after all images


@dataclass(frozen=True, slots=True)
class EventPart:
    """The events of some results that follow each other. `last` is the place of the last one.

    It was read when the task had the revision `as_of`. It is `full` if it has as many results as a
    part may have, so more may follow. It stays what it is if it is `settled`: it is full, and none
    of its results can be retried.
    """

    data: bytes
    last: Place
    as_of: int
    full: bool
    settled: bool

    def holds(self, state: TaskState) -> bool:
        """Return whether it is still right when a task is in this state."""
        return self.settled or self.as_of >= state.revision

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return PART_BYTES + len(self.data)


class EventLog:
    """Reads and encodes the events of tasks, and keeps the most recently used ones."""

    def __init__(self, engine: Engine, max_bytes: int = MAX_BYTES) -> None:
        self._engine = engine
        self._max_bytes = max_bytes
        self._bytes = 0
        self._parts: OrderedDict[tuple[str, Place], EventPart] = OrderedDict()
        self._items: OrderedDict[str, tuple[int, TaskItem]] = OrderedDict()
        # Clients that ask for the same part must not all read it.
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def size(self) -> int:
        """About how many bytes of memory the kept events take."""
        return self._bytes

    async def after(self, state: TaskState, place: Place) -> EventPart:
        """Return the results that follow `place`. The part is empty if there are none as yet.

        `state` is the task as it is now, or was a moment ago.

        Raises:
            StoreError: The database cannot be read now.
        """
        if (known := self._known(state, place)) is not None:
            return known
        async with self._lock(state.id):
            if (known := self._known(state, place)) is not None:
                return known
            rows = await results_after(self._engine, state.id, place, limit=RESULTS)
            part = part_of(rows, place, state.revision)
            self._keep((state.id, place), part)
            return part

    async def item(self, state: TaskState) -> TaskItem:
        """Return a task without its results. Its images are counted once for each revision.

        Raises:
            StoreError: The database cannot be read now.
        """
        if (known := self._known_item(state)) is not None:
            return known
        async with self._lock(state.id):
            if (known := self._known_item(state)) is not None:
                return known
            item = task_item(state, await read_counts(self._engine, state.id))
            self._items[state.id] = state.revision, item
            if len(self._items) > RESULTS:
                self._items.popitem(last=False)
            return item

    def _known(self, state: TaskState, place: Place) -> EventPart | None:
        """Return the part that follows `place` if it is kept, and right in this state."""
        part = self._parts.get((state.id, place))
        # guard: shared-events
        if part is None or not part.holds(state):
            return None
        self._parts.move_to_end((state.id, place))
        return part

    def _known_item(self, state: TaskState) -> TaskItem | None:
        revision, item = self._items.get(state.id, (None, None))
        return item if revision == state.revision else None

    def _lock(self, task_id: str) -> asyncio.Lock:
        return self._reading.setdefault(task_id, asyncio.Lock())

    def _keep(self, key: tuple[str, Place], part: EventPart) -> None:
        replaced = self._parts.pop(key, None)
        self._bytes += part.size - (replaced.size if replaced else 0)
        self._parts[key] = part
        # guard: bounded-events
        while self._bytes > self._max_bytes and len(self._parts) > 1:
            self._bytes -= self._parts.popitem(last=False)[1].size


def part_of(rows: Sequence[StoredResult], place: Place, as_of: int) -> EventPart:
    """Return the part with these results, which follow `place`."""
    last = Place(rows[-1][0], rows[-1][1]) if rows else place
    images = [(Place(row[0], row[1]), image_of_result(row)) for row in rows]
    full = len(rows) >= RESULTS
    settled = full and all(is_final(image) for _, image in images)
    return EventPart(b"".join(image_event(*image) for image in images), last, as_of, full, settled)


def image_of_result(row: StoredResult) -> ImageView:
    """Return the image that a stored result belongs to."""
    _, _, filename, sha256, status, result = row
    return image_view(filename, sha256, Status(status), result)


def image_event(place: Place, image: ImageView) -> bytes:
    """Return the `image` event of a finished image."""
    assert image.outcome is not None
    result = image_result(image.filename, image.sha256, image.outcome)
    return event("image", {"position": place.position, **result}, id_of(place))


def event(name: str, data: object, event_id: str | None = None) -> bytes:
    """Return one event of a stream. `data` is sent as JSON, which has no line breaks."""
    identifier = f"id: {event_id}\n" if event_id is not None else ""
    return f"event: {name}\n{identifier}data: ".encode() + encoded(data) + b"\n\n"


def id_of(place: Place) -> str:
    """Return the id of the event at this place, for Last-Event-ID."""
    return f"{place.revision}-{'end' if place.position == END else place.position}"

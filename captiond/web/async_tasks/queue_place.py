"""The place of a waiting task in the queue, for its status: an estimate, which costs little.

Clients have fair turns, and so have the tasks of a client, so the place of a task is not its place
by age. It is computed as the turns are given: from the virtual times of `store.turns`.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from captiond.jobs import Status, TaskState
from captiond.queues.shares import images_before, images_until
from captiond.store.engine import Engine
from captiond.store.queueview import Backlog, QueueView, queue_view
from captiond.web.async_tasks.task_queue import TaskQueue

FRESH_SECONDS = 1.0  # a place is computed once in this time, however many clients ask
KNOWN_TASKS = 1000


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """`position`: about so many images of other tasks come before the next image of the task.

    `eta_seconds`: after about so many seconds the task is finished, or None while it is not known
    how fast images are finished.
    """

    position: int
    eta_seconds: int | None


class QueuePlaces:
    """Computes the places of waiting tasks. `rate` returns the images finished per second, or 0."""

    def __init__(self, engine: Engine, queue: TaskQueue, rate: Callable[[], float]) -> None:
        self._engine = engine
        self._queue = queue
        self._rate = rate
        self._known: OrderedDict[str, tuple[float, QueuePlace | None]] = OrderedDict()

    async def place(self, state: TaskState) -> QueuePlace | None:
        """Return the place of a task, or None if it does not wait any more.

        Raises:
            StoreError: The database cannot be read now.
        """
        if state.status is not Status.PENDING:
            return None
        now = asyncio.get_running_loop().time()
        read_at, place = self._known.get(state.id, (-math.inf, None))
        if now - read_at < FRESH_SECONDS:
            return place
        view = await queue_view(self._engine, state.id)
        if view is not None:
            place = place_in(view, await self._queue.backlog(), self._rate())
        self._keep(state.id, now, place)
        return place

    def _keep(self, task_id: str, now: float, place: QueuePlace | None) -> None:
        self._known[task_id] = now, place
        self._known.move_to_end(task_id)
        if len(self._known) > KNOWN_TASKS:
            self._known.popitem(last=False)


def place_in(view: QueueView, backlog: Backlog, rate: float) -> QueuePlace:
    """Return the place that a view shows. `backlog` is that of all tasks."""
    others = max(0, backlog.images - view.task.images)
    before = min(
        others,
        images_before(
            view.task, view.tasks_before, view.client_turn, view.client_weight, view.clients
        ),
    )
    weights = sum(weight for _, weight in view.clients) or view.client_weight
    each = max(1.0, weights / view.client_weight) * max(1, view.siblings)
    until = min(images_until(view.task.images, before, each), view.task.images + others)
    eta = two_digits(math.ceil(until / rate)) if rate > 0 else None
    return QueuePlace(two_digits(before), eta)


def two_digits(number: int) -> int:
    """Return a number rounded to two significant digits: an estimate has no more."""
    return round(number, min(0, 2 - len(str(number))))

"""A queue for each lane of images, and which images are taken next. Pure.

In each lane, the clients' images have their fair turns.
"""

import math
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from captiond.clients import Client
from captiond.jobs import Lane
from captiond.messages import Work
from captiond.queues.fairqueue import FairQueue

T = TypeVar("T", bound="Item")

# While interactive images keep coming, every fifth batch is of the bulk lane, so that tasks
# progress however busy the service is.
PATIENCE = 4
ALL_LANES = tuple(Lane)


class Item(Protocol):
    """An image of a client that can be in a batch with others of its group."""

    @property
    def lane(self) -> Lane: ...

    @property
    def client(self) -> Client: ...

    @property
    def ticket(self) -> str:
        """What tells the item from all others."""

    @property
    def group(self) -> Hashable: ...

    @property
    def cost(self) -> float:
        """The estimated cost, in the same unit for all items."""


class ForWork:
    """What waits in turn on behalf of some work: it has the lane, client and ticket of the work."""

    __slots__ = ()
    work: Work

    @property
    def lane(self) -> Lane:
        return self.work.lane

    @property
    def client(self) -> Client:
        return self.work.client

    @property
    def ticket(self) -> str:
        return self.work.ticket


@dataclass(slots=True)
class Lanes(Generic[T]):
    """A queue for each lane. The interactive one has precedence over the bulk one.

    Images of imports are taken only if no others are there.
    """

    queues: dict[Lane, FairQueue[T]] = field(
        default_factory=lambda: {lane: FairQueue() for lane in Lane}
    )
    _passed_over: int = 0

    def __bool__(self) -> bool:
        return any(self.queues.values())

    def waiting(self, lane: Lane) -> int:
        """Return how many items of a lane wait."""
        return len(self.queues[lane])

    def put(self, item: T) -> None:
        """Add an item to its lane."""
        self.queues[item.lane].put(item.client, item.ticket, item, item.cost)

    def take(
        self, size: int, *, most_cost: float = math.inf, among: Collection[Lane] = ALL_LANES
    ) -> list[T]:
        """Remove up to `size` items of one lane and one group, and return them.

        The lane is one of `among`. The group is that of the lane's next item; the items of other
        groups keep their turns. Together the items cost at most `most_cost`, unless it is only one.
        Interactive images are never in a batch with bulk images: on a CPU every further image makes
        all clients of the batch wait longer.

        Each item has to be reported with `finished`.
        """
        lane = self._next_lane([lane for lane in among if self.queues[lane]])
        if lane is None:
            return []
        return self.queues[lane].take_group(size, lambda item: item.group, most_cost=most_cost)

    def finished(self, item: T, *, extra: float = 0.0) -> None:
        """Note that an item is finished, which cost `extra` more than was estimated."""
        self.queues[item.lane].finished(item.client.name, extra=extra)

    def _next_lane(self, ready: Collection[Lane]) -> Lane | None:
        """Return which of the lanes `ready` is next; None if there is none."""
        interactive, bulk = Lane.INTERACTIVE in ready, Lane.BULK in ready
        if interactive and bulk and self._passed_over < PATIENCE:
            self._passed_over += 1
            return Lane.INTERACTIVE
        self._passed_over = 0
        if bulk:
            return Lane.BULK
        if interactive:
            return Lane.INTERACTIVE
        return Lane.IMPORT if Lane.IMPORT in ready else None

"""Two queues, for interactive and for bulk images, and which images are taken next. Pure."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from captiond.jobs import Lane

T = TypeVar("T", bound="Item")

# While interactive images keep coming, every fifth batch is of the bulk lane, so that tasks
# progress however busy the service is.
PATIENCE = 4


class Item(Protocol):
    """An image that can be in a batch with others of its group."""

    @property
    def group(self) -> Hashable: ...


@dataclass(slots=True)
class Lanes(Generic[T]):
    """Two queues. The interactive one has precedence over the bulk one."""

    interactive: deque[T] = field(default_factory=deque)
    bulk: deque[T] = field(default_factory=deque)
    _passed_over: int = 0

    def __bool__(self) -> bool:
        return bool(self.interactive or self.bulk)

    def waiting(self, lane: Lane) -> int:
        """Return how many items of a lane wait."""
        return len(self.interactive if lane is Lane.INTERACTIVE else self.bulk)

    def put(self, lane: Lane, item: T) -> None:
        """Append an item to its lane."""
        (self.interactive if lane is Lane.INTERACTIVE else self.bulk).append(item)

    def take(self, size: int) -> list[T]:
        """Remove up to `size` items of one lane and one group, and return them.

        The group is that of the lane's first item. The other items keep their order. Interactive
        images are never in a batch with bulk images: on a CPU every further image makes all clients
        of the batch wait longer.
        """
        lane = self._next_lane()
        group = lane[0].group if lane else None
        batch: list[T] = []
        others: list[T] = []
        while lane and len(batch) < size:
            item = lane.popleft()
            (batch if item.group == group else others).append(item)
        lane.extendleft(reversed(others))
        return batch

    def _next_lane(self) -> deque[T]:
        if not self.bulk:
            self._passed_over = 0
            return self.interactive
        if self.interactive and self._passed_over < PATIENCE:
            self._passed_over += 1
            return self.interactive
        self._passed_over = 0
        return self.bulk

"""Which images make the next batch. Pure."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from captiond.jobs import Lane

T = TypeVar("T", bound="Item")

# While interactive images keep coming, every fifth batch is for the bulk lane, so that a task
# gets on however busy the day is.
PATIENCE = 4


class Item(Protocol):
    """What makes a batch, with others of its group."""

    @property
    def group(self) -> Hashable: ...


@dataclass(slots=True)
class Lanes(Generic[T]):
    """Two queues, the interactive one going ahead of the bulk one."""

    interactive: deque[T] = field(default_factory=deque)
    bulk: deque[T] = field(default_factory=deque)
    _passed_over: int = 0

    def __bool__(self) -> bool:
        return bool(self.interactive or self.bulk)

    def waiting(self, lane: Lane) -> int:
        return len(self.interactive if lane is Lane.INTERACTIVE else self.bulk)

    def put(self, lane: Lane, item: T) -> None:
        (self.interactive if lane is Lane.INTERACTIVE else self.bulk).append(item)

    def take(self, size: int) -> list[T]:
        """The next batch, of one lane and one group: that of the first that waits, and up to `size`
        of those that wait there now. The others keep their order.

        Interactive images are not put in one batch with bulk ones: on a CPU each image more makes
        everybody in the batch wait longer.
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

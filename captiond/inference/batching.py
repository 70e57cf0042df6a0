"""Which images make the next batch. Pure."""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from captiond.jobs import Lane

T = TypeVar("T", bound="Item")

# While interactive images keep coming, every fifth batch is for the bulk lane, so that a task
# gets on however busy the day is.
PATIENCE = 4


class Item(Protocol):
    """What makes a batch; one that is `alone` is a batch by itself."""

    @property
    def alone(self) -> bool: ...


@dataclass(slots=True)
class Lanes(Generic[T]):
    """Two queues, the interactive one going ahead of the bulk one."""

    interactive: deque[T] = field(default_factory=deque)
    bulk: deque[T] = field(default_factory=deque)
    _passed_over: int = 0

    def __bool__(self) -> bool:
        return bool(self.interactive or self.bulk)

    def put(self, lane: Lane, item: T) -> None:
        (self.interactive if lane is Lane.INTERACTIVE else self.bulk).append(item)

    def take(self, size: int) -> list[T]:
        """The next batch, of one lane: what waits there now, up to `size`.

        Interactive images are not put in one batch with bulk ones: on a CPU each image more makes
        everybody in the batch wait longer.
        """
        lane = self._next_lane()
        batch: list[T] = []
        while lane and len(batch) < size and not (batch and (lane[0].alone or batch[0].alone)):
            batch.append(lane.popleft())
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

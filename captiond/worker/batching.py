"""Which images make the next batch, and how long it waits for more images.

Pure: no I/O and no clock. Times are arguments, in seconds of one monotonic clock.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Generic

from captiond.jobs import Generation, Lane
from captiond.queues.lanes import Lanes, T

# The next batch waits for at most this part of the last batch's duration: for images that are being
# decoded, and for images that clients may send who have just been answered.
DECODING_SHARE, CLIENTS_SHARE = 0.05, 0.01
# A batch is expected to take at most so long, because images of other clients have to wait for it.
# The batch size sees to that for usual captions, but not for those with many beams and tokens.
LONGEST_SECONDS = 10.0
OTHERS = (Lane.INTERACTIVE, Lane.BULK)  # images of imports yield to these


class Batcher(Generic[T]):
    """The images that are ready for the model, in their lanes."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._ready: Lanes[T] = Lanes()
        self._decoding: Counter[Lane] = Counter()
        self._batch: list[T] = []  # the one that was taken last
        self._last_batch = 0.0, 0.0  # when it began and ended
        # The cost of a batch that is expected to take LONGEST_SECONDS. Before any measurement,
        # this is a full batch of usual captions.
        self._most_cost = batch_size * Generation().cost

    def __bool__(self) -> bool:
        """Return whether an image may be taken."""
        return any(map(self._ready.waiting, self._takable))

    @property
    def has_others(self) -> bool:
        """Whether an image that is of no import is ready, or is being decoded."""
        return any(self._ready.waiting(lane) or self._decoding[lane] for lane in OTHERS)

    @property
    def _takable(self) -> tuple[Lane, ...]:
        """The lanes from which images may be taken.

        An image that somebody waits for is ready in a moment. It would otherwise have to wait for a
        whole batch of an import.
        """
        # guard: imports-yield-to-decoding
        return OTHERS if any(self._decoding[lane] for lane in OTHERS) else tuple(Lane)

    @property
    def is_decoding(self) -> bool:
        """Whether an image is being decoded."""
        return self._decoding.total() > 0

    def decoding_begun(self, lane: Lane) -> None:
        self._decoding[lane] += 1

    def decoding_ended(self, lane: Lane) -> None:
        self._decoding[lane] -= 1

    def put(self, item: T) -> None:
        """Add an image that is ready."""
        self._ready.put(item)

    def take(self) -> list[T]:
        """Remove the next batch and return it; it is empty if no image may be taken.

        The batch before it must be finished.
        """
        for item in self._batch:
            self._ready.finished(item)
        self._batch = self._ready.take(
            self.batch_size, most_cost=self._most_cost, among=self._takable
        )
        return list(self._batch)

    def batch_ended(self, captioned: Iterable[T], begun: float, ended: float) -> None:
        """Note when the batch that was taken last began and ended.

        `captioned` is what the model worked on: without the images that were withdrawn before.
        """
        self._last_batch = begun, ended
        cost = sum(item.cost for item in captioned)
        if cost and ended > begun:
            self._most_cost = LONGEST_SECONDS * cost / (ended - begun)

    def wait_seconds(self, now: float) -> float:
        """Return how long the next batch may still wait for more images; 0 or less if it may not.

        A batch that is not full would otherwise run alone, and the images right behind it would
        fill only a part of the batch after it, again and again.
        """
        lane = next(filter(self._ready.waiting, self._takable), Lane.BULK)
        if not 0 < self._ready.waiting(lane) < self.batch_size:
            return 0.0
        share = DECODING_SHARE if self._decoding[lane] else CLIENTS_SHARE
        begun, ended = self._last_batch
        return ended + share * (ended - begun) - now

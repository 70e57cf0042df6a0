"""Which images make the next batch, and how long it waits for more images.

Pure: no I/O and no clock. Times are arguments, in seconds of one monotonic clock.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Generic

from captiond.jobs import Generation, Lane
from captiond.lanes import Lanes, T

# The next batch waits for at most this part of the last batch's duration: for images that are being
# decoded, and for images that clients may send who have just been answered.
DECODING_SHARE, CLIENTS_SHARE = 0.05, 0.01
# A batch is expected to take at most so long, because images of other clients have to wait for it.
# The batch size sees to that for usual captions, but not for those with many beams and tokens.
LONGEST_SECONDS = 10.0


class Batcher(Generic[T]):
    """The images that are ready for the model, in their lanes."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._ready: Lanes[T] = Lanes()
        self._decoding: Counter[Lane] = Counter()
        self._batch: list[T] = []  # the one that was taken last
        self._last_batch = 0.0, 0.0  # when it began and ended
        # The cost of a batch that is expected to take LONGEST_SECONDS. Before any measurement,
        # this is a full batch of usual captions.
        self._most_cost = batch_size * Generation().cost

    def __bool__(self) -> bool:
        """Return whether an image is ready."""
        return bool(self._ready)

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
        """Remove the next batch and return it; it is empty if no image is ready.

        The batch before it must be finished.
        """
        for item in self._batch:
            self._ready.finished(item)
        self._batch = self._ready.take(self._batch_size, most_cost=self._most_cost)
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
        lane = Lane.INTERACTIVE if self._ready.waiting(Lane.INTERACTIVE) else Lane.BULK
        if not 0 < self._ready.waiting(lane) < self._batch_size:
            return 0.0
        share = DECODING_SHARE if self._decoding[lane] else CLIENTS_SHARE
        begun, ended = self._last_batch
        return ended + share * (ended - begun) - now

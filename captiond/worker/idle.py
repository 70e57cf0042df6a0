"""What a model waits for between two batches."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class IdleCause(StrEnum):
    """Why a model waits.

    `CLIENTS`: there is no image. `DECODING`: no image is decoded yet. `MORE`: a batch that is not
    full waits for more images. `OTHER`: everything else.
    """

    CLIENTS = "clients"
    DECODING = "decoding"
    MORE = "more"
    OTHER = "other"


class IdleTime:
    """The time since the last batch in seconds, by what the model waited for."""

    def __init__(self) -> None:
        self._spent = defaultdict[IdleCause, float](float)
        self._since = time.perf_counter()

    @contextmanager
    def waiting(self, cause: IdleCause) -> Iterator[None]:
        """Attribute the time of the block to a cause."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._spent[cause] += time.perf_counter() - begun

    def batch_begins(self) -> dict[IdleCause, float]:
        """Return the time since the last batch, by cause."""
        rest = time.perf_counter() - self._since - sum(self._spent.values())
        return {**self._spent, IdleCause.OTHER: max(0.0, rest)}

    def batch_ended(self) -> None:
        """Start counting anew."""
        self._spent.clear()
        self._since = time.perf_counter()

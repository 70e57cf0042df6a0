"""What a model waits for between two batches."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class Cause(StrEnum):
    """`CLIENTS`: no image has come. `DECODING`: none is decoded yet. `MORE`: a batch that has room
    lets more join. `HANDING_OVER`: all the rest, as pixels on their way.
    """

    CLIENTS = "clients"
    DECODING = "decoding"
    MORE = "more"
    HANDING_OVER = "handing_over"


class Idle:
    """The time since the last batch, by what it was spent on; in seconds."""

    def __init__(self) -> None:
        self._spent = defaultdict[Cause, float](float)
        self._since = time.perf_counter()

    @contextmanager
    def waiting(self, cause: Cause) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._spent[cause] += time.perf_counter() - begun

    def end(self) -> dict[Cause, float]:
        """A batch begins: what was waited for since the last one."""
        rest = time.perf_counter() - self._since - sum(self._spent.values())
        return {**self._spent, Cause.HANDING_OVER: max(0.0, rest)}

    def begin(self) -> None:
        """A batch has ended."""
        self._spent.clear()
        self._since = time.perf_counter()

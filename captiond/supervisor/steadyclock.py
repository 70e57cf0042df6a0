"""The clock by which data expires. It does not follow the wall clock when that jumps.

A wall clock may be wrong by weeks: it is set by hand, by a wrong time server, or a machine starts
without its battery. A jump forward must not delete what was just made. So this clock never runs
ahead of the wall clock, and at most twice as fast as time passes while captiond runs. After a long
stop of captiond, it lags behind and catches up; until then data is kept for longer.
"""

import asyncio
import time
from collections.abc import Callable

from captiond.store import clocks
from captiond.store.engine import Engine

NAME = "retention"
RATE = 2.0  # seconds that the clock may advance in one second
SAVE_SECONDS = 60.0


class SteadyClock:
    """The time by which data expires, in Unix seconds. A supervisor has one such clock.

    `wall` and `monotonic` return the machine's clocks in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall = wall
        self._engine = engine
        self._monotonic = monotonic
        self._reached: float | None = None
        self._at = self._saved_at = 0.0
        self._turn = asyncio.Lock()

    async def now(self) -> float:
        """Return the time. It is stored at most once a minute.

        Raises:
            StoreError: The database cannot be read or written now.
        """
        return await self._advance(SAVE_SECONDS)

    async def save(self) -> None:
        """Store the time, so that the next start continues from here.

        Raises:
            StoreError: The database cannot be read or written now.
        """
        await self._advance(0.0)

    async def _advance(self, save_after: float) -> float:
        """Return the time, and store it if it was stored longer than `save_after` seconds ago."""
        async with self._turn:
            at = self._monotonic()
            if self._reached is None:
                begun = await clocks.reached(self._engine, NAME)
                self._reached, self._at = self.wall() if begun is None else begun, at
                self._saved_at = at - SAVE_SECONDS
            reached = advanced(self._reached, self.wall(), elapsed=at - self._at)
            self._reached, self._at = reached, at
            if at - self._saved_at >= save_after:
                await clocks.set_reached(self._engine, NAME, reached)
                self._saved_at = at
            return reached


def advanced(reached: float, wall: float, *, elapsed: float) -> float:
    """Return the time of a clock that had `reached` a time `elapsed` seconds ago."""
    # guard: clock-jumps
    return min(wall, reached + RATE * elapsed)

"""The clock by which data expires. It does not follow the wall clock when that jumps.

A wall clock may be wrong by weeks: it is set by hand, by a wrong time server, or a machine starts
without its battery. A jump forward must not delete what was just made. So this clock never runs
ahead of the wall clock, and at most twice as fast as time passes while captiond runs. After a long
stop of captiond, it lags behind and catches up; until then data is kept for longer.

A wall clock that was set back takes this one with it: what is stored meanwhile bears an early time,
and must not expire at once when the wall clock is corrected. Once all of that has expired, this
clock returns to where it was. Otherwise a machine that has once started in 1970 would keep all data
for decades.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from captiond.store import clocks
from captiond.store.engine import Engine

NAME = "retention"
HIGHEST, BEHIND = f"{NAME} highest", f"{NAME} behind"  # names of the other parts in the database
RATE = 2.0  # seconds that the clock may advance in one second
SAVE_SECONDS = 60.0
CORRECTION = 60.0  # seconds by which a time server sets back a clock that is right


@dataclass(frozen=True, slots=True)
class SteadyTime:
    """What the clock has `reached`, and the `highest` time that it would have without set-backs.

    `behind` is the last time of a wall clock that was set back.
    """

    reached: float
    highest: float
    behind: float = -math.inf


class SteadyClock:
    """The time by which data expires, in Unix seconds. A supervisor has one such clock.

    Nothing is kept for longer than `longest` seconds by this clock. `wall` and `monotonic` return
    the machine's clocks in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        longest: float = math.inf,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall = wall
        self._engine = engine
        self._longest = longest
        self._monotonic = monotonic
        self._time: SteadyTime | None = None
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
            if self._time is None:
                self._time, self._at = await self._stored(), at
                self._saved_at = at - SAVE_SECONDS
            self._time = advanced(
                self._time, self.wall(), elapsed=at - self._at, longest=self._longest
            )
            self._at = at
            if at - self._saved_at >= save_after:
                await clocks.set_reached(self._engine, parts_of(self._time))
                self._saved_at = at
            return self._time.reached

    async def _stored(self) -> SteadyTime:
        reached = await clocks.reached(self._engine, NAME)
        if reached is None:
            reached = self.wall()
        highest = await clocks.reached(self._engine, HIGHEST)
        behind = await clocks.reached(self._engine, BEHIND)
        return SteadyTime(
            reached,
            reached if highest is None else highest,
            -math.inf if behind is None else behind,
        )


def parts_of(time: SteadyTime) -> dict[str, float]:
    """Return the times to store, by their names."""
    parts = {NAME: time.reached, HIGHEST: time.highest}
    return parts if time.behind == -math.inf else {**parts, BEHIND: time.behind}


def advanced(
    time: SteadyTime, wall: float, *, elapsed: float, longest: float = math.inf
) -> SteadyTime:
    """Return the time of a clock that had `time` a time `elapsed` seconds ago."""
    # guard: clock-jumps
    reached = min(wall, time.reached + RATE * elapsed)
    highest = max(time.highest, min(wall, time.highest + RATE * elapsed))
    behind = wall if wall < highest - CORRECTION else time.behind
    # guard: clock-returns
    if reached > behind + longest:  # what was stored with such times has expired
        reached = min(wall, highest)
    return SteadyTime(reached, highest, behind)

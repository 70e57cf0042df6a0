"""The memory that all image decoders of a model process may take together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from captiond.errors import TooMuchMemory
from captiond.machine import total_bytes

MIB, GIB = 1 << 20, 1 << 30
SHARE = 4  # of the memory: a quarter
ALLOWANCE = 64 * MIB  # what each decoder may take for an image without asking
FILE_COPIES = 3  # of an uploaded file in a decoder: as it is, plain, and while one becomes another


def budget_bytes(setting: int, processes: int) -> int:
    """Return the budget of one of so many model processes.

    Without a setting it is a quarter of the memory, or a gigabyte if a half is more than that.
    """
    memory = total_bytes()
    return (setting or max(memory // SHARE, min(GIB, memory // 2))) // processes


def standing_bytes(file_bytes: int) -> int:
    """Return what each decoder may take without asking, for files of at most `file_bytes`."""
    return ALLOWANCE + FILE_COPIES * file_bytes


class MemoryBudget:
    """Lends bytes to decoders. Those that have to wait get theirs in the order of their asking."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def lent(self, needed: int) -> AsyncIterator[None]:
        """Lend bytes for the time of the block, as soon as they are free.

        Raises:
            TooMuchMemory: the budget is smaller than that.
        """
        await self._take(needed)
        try:
            yield
        finally:
            self._give_back(needed)

    async def _take(self, needed: int) -> None:
        if needed > self.total:
            raise too_much(needed, self.total)
        if not self._waiting and needed <= self.free:
            self.free -= needed
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((needed, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(needed)
            else:
                self._waiting.remove((needed, turn))
                self._serve()
            raise

    def _give_back(self, amount: int) -> None:
        self.free += amount
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free:
            needed, turn = self._waiting.popleft()
            if not turn.cancelled():
                self.free -= needed
                turn.set_result(None)


def too_much(needed: int, most: int) -> TooMuchMemory:
    return TooMuchMemory(
        f"decoding the image takes {needed // MIB} MB of memory; at most {most // MIB} MB are "
        "allowed"
    )

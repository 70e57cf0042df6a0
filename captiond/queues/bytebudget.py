"""A number of bytes that tasks of one event loop borrow, in the order of their asking."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """Lends bytes. Those that have to wait get theirs in the order of their asking."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def lent(self, needed: int) -> AsyncIterator[None]:
        """Lend bytes for the time of the block, as soon as they are free.

        Whoever needs more than there is gets all of it, and has it alone.
        """
        amount = min(needed, self.total)
        await self._take(amount)
        try:
            yield
        finally:
            self._give_back(amount)

    async def _take(self, needed: int) -> None:
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

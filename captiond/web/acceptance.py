"""Tasks that are accepted at the same time share a transaction: its fsync is what takes long."""

import asyncio

from captiond.jobs import NewTask
from captiond.store import tasks
from captiond.store.engine import Engine
from captiond.store.together import Together

COUNTED_SECONDS = 1.0  # the queue's length is counted again after so long


class Acceptance:
    """Takes tasks into the database, as many at a time as have come while it wrote the last."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._together = Together[NewTask, str](lambda some: tasks.create_tasks(engine, some))
        self._open, self._counted = 0, -COUNTED_SECONDS
        self._counting = asyncio.Lock()

    async def accept(self, task: NewTask) -> str:
        """The id of the task once it is durable; an earlier one's if this is the same request.

        Raises:
            KeyReused, StoreError: it is not accepted.
        """
        accepted = await self._together.ask(task)
        self._open += len(task.images)
        return accepted

    async def queued(self) -> int:
        """The number of images that wait or are being worked on, as of a moment ago.

        Counting takes the longer the more there are: what has come since is added instead.
        """
        async with self._counting:
            now = asyncio.get_running_loop().time()
            if now - self._counted >= COUNTED_SECONDS:
                self._open, self._counted = await tasks.count_open(self._engine), now
        return self._open

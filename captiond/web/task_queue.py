"""Tasks are written to the database in groups.

Most of the time of a transaction is its fsync, so tasks that arrive at the same time share one.
"""

import asyncio

from captiond.jobs import NewTask
from captiond.store import tasks
from captiond.store.engine import Engine
from captiond.store.together import Together

COUNT_SECONDS = 1.0  # how often the queue is counted in the database


class TaskQueue:
    """Adds tasks to the database. Tasks that arrive during a transaction share the next one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._together = Together[NewTask, str](lambda some: tasks.create_tasks(engine, some))
        self._length, self._counted_at = 0, -COUNT_SECONDS
        self._counting = asyncio.Lock()

    async def add(self, task: NewTask) -> str:
        """Return the task's id once the task is durable.

        If an earlier task came with the same Idempotency-Key and the same content, return the
        earlier task's id instead and add nothing.

        Raises:
            KeyReused: the key came with other content before. The task is not added.
            StoreError: the database cannot be written. The task is not added.
        """
        task_id = await self._together.ask(task)
        self._length += len(task.images)
        return task_id

    async def length(self) -> int:
        """Return how many images wait or are being captioned.

        The number is up to a second old, apart from the tasks that this process has added since:
        a long queue takes long to count.
        """
        async with self._counting:
            now = asyncio.get_running_loop().time()
            if now - self._counted_at >= COUNT_SECONDS:
                self._length, self._counted_at = await tasks.count_open(self._engine), now
        return self._length

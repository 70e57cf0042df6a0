"""Tasks are written to the database in groups.

Most of the time of a transaction is its fsync, so tasks that arrive at the same time share one.
"""

import asyncio

from captiond.jobs import NewTask
from captiond.store import queueview, tasks
from captiond.store.engine import Engine
from captiond.store.queueview import Backlog
from captiond.store.together import Together

COUNT_SECONDS = 1.0  # how often the backlog is read from the database, at most
PAUSE = 20  # times the duration of the last reading


class TaskQueue:
    """Adds tasks to the database. Tasks that arrive during a transaction share the next one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._together = Together[NewTask, str](lambda some: tasks.create_tasks(engine, some))
        self._backlog, self._next_count = Backlog(), 0.0
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
        if task_id == task.id:
            new = backlog_of(task)
            self._backlog = Backlog(
                self._backlog.images + new.images, self._backlog.size + new.size
            )
        return task_id

    async def backlog(self) -> Backlog:
        """Return the images that wait or are being captioned, and the bytes of their tasks.

        It is a second old or more, apart from the tasks that this process has added since: the rows
        of all unfinished tasks are read for it, which takes long if there are very many.
        """
        async with self._counting:
            begun = self._now()
            if begun >= self._next_count:
                self._backlog = await queueview.backlog(self._engine)
                taken = self._now() - begun
                self._next_count = begun + max(COUNT_SECONDS, PAUSE * taken)
        return self._backlog

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def backlog_of(task: NewTask) -> Backlog:
    """Return what a task adds to the backlog."""
    sizes = [image.spooled.size for image in task.images if image.spooled]
    return Backlog(len(sizes), sum(sizes))

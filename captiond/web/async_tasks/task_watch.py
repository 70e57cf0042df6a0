"""Tasks that clients of this process wait for. One reader serves all of them.

The supervisor reports which tasks have changed. Its messages are hints, and a command may change a
task without one, so the states of all watched tasks are also read every POLL_SECONDS. Both take one
statement of the database, however many clients wait.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog

from captiond.errors import StoreError, TaskNotFound
from captiond.jobs import TaskState
from captiond.store.engine import Engine
from captiond.store.snapshots import read_states
from captiond.web.problems import TooManyWaiting

POLL_SECONDS = 2.0
PACE_SECONDS = 0.2  # between two readings
SENT_AT_ONCE = 16  # clients, after which there is a pause
SEND_PAUSE = 0.0005
SECONDS_FOR_EACH = 0.002  # more, for each client: to serve one takes a part of that
RETRY_SECONDS = 5
SHARE_OF_CONNECTIONS = 3 / 4  # the other ones are left for requests that are short
log = structlog.get_logger()


class WatchedTask:
    """A task that clients wait for. `state` is None once the task is deleted.

    Once the service stops, `stopping` is true and no client is to wait any more.
    """

    def __init__(self) -> None:
        self.state: TaskState | None = None
        self.stopping = False
        self.waiters = 0
        self._changed = asyncio.Event()

    def update(self, state: TaskState | None) -> bool:
        """Take the state of the task, and wake all that wait for a change. Return if it is one."""
        changed = state != self.state
        self.state = state
        if changed:
            self.wake()
        return changed

    def wake(self) -> None:
        """Wake all that wait."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, seconds: float) -> bool:
        """Wait for a change, and return true. Return false if there is none within `seconds`.

        No change is missed that follows the last look at `state` without a wait in between.
        """
        if self.stopping:
            return True
        try:
            async with asyncio.timeout(seconds):
                return await self._changed.wait()
        except TimeoutError:
            return False


class TaskWatch:
    """The watched tasks of one process. At most `most` clients wait at the same time."""

    def __init__(self, engine: Engine, most: int) -> None:
        self._engine = engine
        self._most = most
        self._waiters = 0
        self._tasks: dict[str, WatchedTask] = {}
        self._hinted: set[str] = set()
        self._hint = asyncio.Event()
        self._stopping = False
        self._serving, self._queued, self._served = asyncio.Lock(), 0, 0

    @property
    def waiters(self) -> int:
        """How many clients wait now."""
        return self._waiters

    def hint(self, task_ids: Iterable[str]) -> None:
        """Note that these tasks may have changed."""
        hinted = self._tasks.keys() & set(task_ids)
        if hinted:
            self._hinted |= hinted
            self._hint.set()

    def stop(self) -> None:
        """Let no client wait any more."""
        self._stopping = True
        for task in self._tasks.values():
            task.stopping = True
            task.wake()

    async def turn(self) -> None:
        """Wait for the turn of a client to be sent something.

        One client is served in each round of the event loop, so other requests go on in between: to
        send something to a thousand clients at once takes a part of a second. After SENT_AT_ONCE of
        them the process pauses. If it paused after each, it would be slow on a busy machine, where
        it gets the processor back late.
        """
        self._queued += 1
        try:
            async with self._serving:
                self._served += 1
                pauses = self._queued > 1 and self._served % SENT_AT_ONCE == 0
                await asyncio.sleep(SEND_PAUSE if pauses else 0)
        finally:
            self._queued -= 1

    @asynccontextmanager
    async def watching(self, task_id: str) -> AsyncIterator[WatchedTask]:
        """Watch a task during the block. Its state is as it is now.

        Raises:
            TaskNotFound: There is no such task.
            TooManyWaiting: Too many clients wait already.
            StoreError: The database cannot be read now.
        """
        # guard: bounded-waiters
        if self._waiters >= self._most:
            raise TooManyWaiting(
                f"{self._most} clients wait for tasks already; poll the status instead",
                retry_after=RETRY_SECONDS,
            )
        task = self._tasks.setdefault(task_id, WatchedTask())
        task.stopping = self._stopping
        task.waiters += 1
        self._waiters += 1
        try:
            await self._read([task_id])
            if task.state is None:
                raise TaskNotFound("Task not found.")
            yield task
        finally:
            self._waiters -= 1
            task.waiters -= 1
            if not task.waiters:
                del self._tasks[task_id]

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the watched tasks until cancelled. Once `stop` is set, no client waits."""
        stopping = asyncio.create_task(self._stop_after(stop))
        try:
            while True:
                hinted = await self._hinted_tasks()
                try:
                    await self._read(self._tasks if hinted is None else hinted)
                except StoreError as error:  # the next poll tries again
                    log.warning("tasks_not_read", reason=str(error))
                await asyncio.sleep(PACE_SECONDS + SECONDS_FOR_EACH * self._waiters)
        finally:
            stopping.cancel()

    async def _stop_after(self, stop: asyncio.Event) -> None:
        await stop.wait()
        # guard: stop-ends-waiting
        self.stop()

    async def _hinted_tasks(self) -> set[str] | None:
        """Wait for a hint, and return the tasks. Return None if it is time to look at all tasks."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._hint.wait()
        except TimeoutError:
            # guard: poll-for-lost-changes
            return None
        self._hint.clear()
        hinted, self._hinted = self._hinted, set()
        return hinted

    async def _read(self, task_ids: Iterable[str]) -> None:
        """Read the states of tasks, and wake those who wait for one that has changed."""
        wanted = [*task_ids]
        if not wanted:
            return
        states = await read_states(self._engine, wanted)
        for task_id in wanted:
            task, state = self._tasks.get(task_id), states.get(task_id)
            # Two readings may end in the other order than they began.
            if task is not None and not is_older(state, task.state):
                task.update(state)


def is_older(state: TaskState | None, known: TaskState | None) -> bool:
    """Return whether a state is an earlier one of the task than the `known` one."""
    return state is not None and known is not None and state.revision < known.revision


def waiters_for(connections: int) -> int:
    """Return how many clients may wait in a process that has so many connections."""
    return max(1, int(SHARE_OF_CONNECTIONS * connections))

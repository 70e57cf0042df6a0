"""Cancels work at each of its waits in turn, to see what it leaves behind.

A task that is cancelled between two steps that belong together shows its fault only if the
cancellation arrives at that very wait. It may be cancelled again while it cleans up: a client
leaves, and then the process stops.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from tests.patience import PATIENCE


class Repeated(Enum):
    """What follows the first cancellation."""

    NEVER = "never again"
    NEXT = "at the next wait"
    ALWAYS = "at each further wait"  # as anyio does in a scope that is cancelled


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A cancellation at the wait `at`, counted from 1.

    If it is `late`, what is waited for has come already, but the task has not run since.
    """

    at: int
    late: bool = False
    repeated: Repeated = Repeated.NEVER

    def applies(self, wait: int) -> bool:
        """Return whether the work is cancelled at this wait."""
        match self.repeated:
            case Repeated.NEVER:
                return wait == self.at
            case Repeated.NEXT:
                return wait in {self.at, self.at + 1}
            case Repeated.ALWAYS:
                return wait >= self.at


UNDISTURBED = Cancellation(0)


def cancellations(waits: int) -> Iterator[Cancellation]:
    """Yield all cancellations of work that waits so many times."""
    for at in range(1, waits + 1):
        for late in (False, True):
            for repeated in Repeated:
                yield Cancellation(at, late, repeated)


async def interrupted(work: Awaitable[object], cancellation: Cancellation) -> int:
    """Run work in a task that is cancelled at some of its waits. Return how many these were.

    The task must end, and so must all tasks that it has started. It must not ignore the
    cancellation. An error of the work is raised.
    """
    others = asyncio.all_tasks()
    interrupting = Interrupting(work, cancellation)
    task = asyncio.create_task(awaiting(interrupting))
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([task])
        while started := asyncio.all_tasks() - others:
            await asyncio.wait(started)
    if not task.cancelled():
        task.result()
        assert cancellation.at not in range(1, interrupting.waits + 1), f"ignored: {cancellation}"
    return interrupting.waits


async def awaiting(work: Awaitable[object]) -> None:
    await work


class Interrupting:
    """Awaits work, and cancels its own task at some of the waits."""

    def __init__(self, work: Awaitable[object], cancellation: Cancellation) -> None:
        self._work = work
        self._cancellation = cancellation
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        step: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                awaited = step()
            except StopIteration:
                return
            self.waits += 1
            if self._cancellation.applies(self.waits):
                self._cancel(awaited)
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - the work gets it
                step = partial(steps.throw, error)
            else:
                step = partial(steps.send, sent)

    def _cancel(self, awaited: "asyncio.Future[Any] | None") -> None:
        """Cancel the task at once, or right before it gets what it waits for."""
        task = asyncio.current_task()
        assert task is not None
        if self._cancellation.late and awaited is not None:
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()

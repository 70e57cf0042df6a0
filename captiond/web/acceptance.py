"""Tasks that are accepted at the same time share a transaction: its fsync is what takes long."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from captiond.errors import StoreError
from captiond.jobs import NewTask
from captiond.store import tasks
from captiond.store.engine import Engine

log = structlog.get_logger()
COUNTED_SECONDS = 1.0  # the queue's length is counted again after so long


@dataclass(slots=True)
class Applicant:
    """A task on its way into the database, and what becomes of it."""

    task: NewTask
    accepted: "asyncio.Future[str]" = field(default_factory=asyncio.Future)

    def settle(self, outcome: str | Exception) -> None:
        if self.accepted.done():
            return
        if isinstance(outcome, Exception):
            self.accepted.set_exception(outcome)
        else:
            self.accepted.set_result(outcome)


class Acceptance:
    """Takes tasks into the database, as many at a time as have come while it wrote the last."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: asyncio.Queue[Applicant] = asyncio.Queue()
        self._open, self._counted = 0, -COUNTED_SECONDS
        self._counting = asyncio.Lock()

    async def accept(self, task: NewTask) -> str:
        """The id of the task once it is durable; an earlier one's if this is the same request.

        Raises:
            KeyReused, StoreError: it is not accepted.
        """
        applicant = Applicant(task)
        self._waiting.put_nowait(applicant)
        return await applicant.accepted

    async def run(self) -> None:
        while True:
            applicants = [await self._waiting.get()]
            while not self._waiting.empty():
                applicants.append(self._waiting.get_nowait())
            await self._write(applicants)

    async def _write(self, applicants: list[Applicant]) -> None:
        outcomes: Sequence[str | Exception]
        try:
            outcomes = await tasks.create_tasks(self._engine, [one.task for one in applicants])
        except StoreError as error:
            outcomes = [error] * len(applicants)
        except Exception as error:
            log.exception("tasks_not_created", tasks=len(applicants))
            if len(applicants) > 1:  # which may be one task's fault
                for applicant in applicants:
                    await self._write([applicant])
                return
            outcomes = [error]
        for applicant, outcome in zip(applicants, outcomes, strict=True):
            applicant.settle(outcome)
            self._open += len(applicant.task.images)

    async def queued(self) -> int:
        """The number of images that wait or are being worked on, as of a moment ago.

        Counting takes the longer the more there are: what has come since is added instead.
        """
        async with self._counting:
            now = asyncio.get_running_loop().time()
            if now - self._counted >= COUNTED_SECONDS:
                self._open, self._counted = await tasks.count_open(self._engine), now
        return self._open

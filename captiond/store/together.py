"""Questions that come at the same time, put to the database together.

A round trip has its price, of the interpreter, the driver and for a write the disk, whatever it
carries.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from captiond.errors import CaptiondError

log = structlog.get_logger()
MOST = 500  # at a time
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(slots=True)
class Asked(Generic[Q, A]):
    """A question, and who waits for its answer."""

    question: Q
    answer: "asyncio.Future[A]" = field(default_factory=asyncio.Future)

    def settle(self, answer: A | Exception) -> None:
        if self.answer.done():  # nobody waits any more
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class Together(Generic[Q, A]):
    """Answers by `answer`, which takes as many questions as have come while it answered the last.

    It returns the answers in their order, an exception where there is one to be raised.
    """

    def __init__(self, answer: Callable[[list[Q]], Awaitable[Sequence[A | Exception]]]) -> None:
        self._answer = answer
        self._waiting: list[Asked[Q, A]] = []
        self._answering: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer to one question.

        Raises:
            Exception: what `answer` gave or raised for it.
        """
        asked = Asked[Q, A](question)
        self._waiting.append(asked)
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all())
        return await asked.answer

    async def _answer_all(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            await self._answer_some(some)

    async def _answer_some(self, some: list[Asked[Q, A]]) -> None:
        answers: Sequence[A | Exception]
        try:
            answers = await self._answer([asked.question for asked in some])
        except CaptiondError as error:
            answers = [error] * len(some)
        except Exception as error:
            log.exception("not_answered", questions=len(some))
            if len(some) > 1:  # it may be one question's fault
                for asked in some:
                    await self._answer_some([asked])
                return
            answers = [error]
        for asked, answer in zip(some, answers, strict=True):
            asked.settle(answer)

"""Combines database operations that arrive at the same time into one transaction.

Each round trip costs time in the interpreter, in the driver and, for a write, on the disk, however
much it carries.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from captiond.errors import CaptiondError, StoreRefused

log = structlog.get_logger()
MOST = 500  # questions in one call
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(slots=True)
class Asked(Generic[Q, A]):
    """A question and the future of its answer."""

    question: Q
    answer: "asyncio.Future[A]" = field(default_factory=asyncio.Future)

    def resolve(self, answer: A | Exception) -> None:
        if self.answer.done():  # the caller was cancelled
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class Together(Generic[Q, A]):
    """Collects the questions that arrive while `answer` works, and passes them to its next call.

    `answer` returns one answer for each question, in their order. An answer that is an exception is
    raised to the one who asked.
    """

    def __init__(self, answer: Callable[[list[Q]], Awaitable[Sequence[A | Exception]]]) -> None:
        self._answer = answer
        self._waiting: list[Asked[Q, A]] = []
        self._answering: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """Return the answer to one question.

        Raises:
            Exception: The answer to this question, or what `answer` raised.
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
        except Exception as error:
            if is_unexpected(error):
                log.exception("not_answered", questions=len(some))
                if len(some) > 1:  # one question may be the cause; the others get their answers
                    for asked in some:
                        await self._answer_some([asked])
                    return
            answers = [error] * len(some)
        for asked, answer in zip(some, answers, strict=True):
            asked.resolve(answer)


def is_unexpected(error: Exception) -> bool:
    """Return whether an error is a fault of captiond or of one question, not of the moment."""
    return isinstance(error, StoreRefused) or not isinstance(error, CaptiondError)

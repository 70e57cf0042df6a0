"""The web process's desk at the supervisor: asks are handed in, answers come back."""

import asyncio
import itertools

from captiond.errors import Draining, ModelNotReady, RequestTimeout
from captiond.jobs import Options, SpooledImage
from captiond.messages import (
    Alive,
    Answer,
    Ask,
    Cancelled,
    Drain,
    Drop,
    Health,
    Queued,
    State,
)
from captiond.processes.channel import Channel, ChannelClosed


class Desk:
    """Knows the service's state and who waits for which answer."""

    def __init__(self, channel: Channel) -> None:
        self.state = State()
        self.closed = asyncio.Event()
        self._channel = channel
        self._tickets = itertools.count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    async def listen(self) -> None:
        """Take messages until the supervisor says drain, or is gone; then `closed` is set."""
        self._channel.send(Alive())
        try:
            while True:
                match await self._channel.receive():
                    case State() as state:
                        self.state = state
                    case Answer() as answer:
                        self._settle(answer)
                    case Drain():
                        self.closed.set()
                    case message:
                        raise TypeError(f"a desk takes no {type(message).__name__}")
        except ChannelClosed:
            self.closed.set()

    def check_ready(self) -> None:
        """Pass if an image can be captioned now.

        Raises:
            Draining, ModelNotReady: it cannot.
        """
        self.check_open()
        if self.state.health is not Health.HEALTHY:
            raise ModelNotReady(self.state.reasons)

    def check_open(self) -> None:
        """Pass if a task may still be accepted.

        Raises:
            Draining: the service is stopping.
        """
        if self.state.draining or self.closed.is_set():
            raise Draining("captiond is stopping; try again shortly")

    async def ask(self, image: SpooledImage, options: Options, *, seconds: float) -> Answer:
        """The answer for one spooled image; an ask that is cancelled withdraws the image.

        Raises:
            RequestTimeout: none came within `seconds`; the image is dropped.
        """
        ticket = next(self._tickets)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = answer
        self._channel.send(Ask(ticket, image, options))
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise RequestTimeout(f"no caption within {seconds:g} seconds") from None
        finally:
            del self._waiting[ticket]
            if answer.cancelled():
                self._channel.send(Drop(ticket))

    def announce_task(self) -> None:
        """Tell the supervisor that there is new work in the database."""
        self._channel.send(Queued())

    def announce_cancel(self, image_ids: tuple[int, ...]) -> None:
        """Tell the supervisor that nobody wants these images any more."""
        self._channel.send(Cancelled(image_ids))

    def _settle(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.ticket)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

"""The web process's end of the pipe to the supervisor."""

import asyncio
import time
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from captiond.clients import Client
from captiond.errors import CannotStore, Draining, ModelNotReady, RequestTimeout
from captiond.jobs import Options, Refused, SpooledImage
from captiond.keys import KeyTable
from captiond.messages import (
    Alive,
    Answer,
    Ask,
    AskMetrics,
    Cancelled,
    Drain,
    Drop,
    Health,
    Keys,
    Measured,
    MetricsAnswer,
    Queued,
    State,
    TasksChanged,
)
from captiond.processes.channel import Channel, ChannelClosed
from captiond.recording import Measurements, Recorder

REPORT_SECONDS = 1.0  # between two reports


class SupervisorClient:
    """Sends requests to the supervisor and receives its answers.

    `state` is the service's last known state, `keys` are its valid keys. `closed` is set once this
    process has to stop.
    """

    def __init__(self, channel: Channel) -> None:
        self.state = State()
        self.keys = KeyTable(required=True)  # until the supervisor has sent the keys
        self.closed = asyncio.Event()
        self._has_keys = asyncio.Event()
        self._channel = channel
        self._next_ticket = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        # The last question for the metrics, and all of them that somebody waits for.
        self._scrape: asyncio.Future[Measurements] | None = None
        self._scrapes: WeakValueDictionary[int, asyncio.Future[Measurements]] = (
            WeakValueDictionary()
        )
        self._next_scrape = 0
        self._on_changes: Callable[[tuple[str, ...]], None] = ignore

    async def listen(self) -> None:
        """Receive messages until the supervisor has gone. A drain or its death sets `closed`."""
        self._channel.send(Alive())
        try:
            while True:
                match await self._channel.receive():
                    case Keys(keys, required):
                        self.keys = KeyTable(keys, required=required)
                        self._has_keys.set()
                    case State() as state:
                        self.state = state
                    case Answer() as answer:
                        self._resolve(answer)
                    case MetricsAnswer(number, metrics):
                        self._resolve_scrape(number, metrics)
                    case TasksChanged(task_ids):
                        self._on_changes(task_ids)
                    case Drain():
                        self.closed.set()
                    case message:
                        raise TypeError(f"a web process receives no {type(message).__name__}")
        except ChannelClosed:
            self.closed.set()
        finally:
            self._has_keys.set()

    async def keys_received(self) -> None:
        """Return once the supervisor has sent the keys, or has gone.

        Without this, a process that has just started would refuse every request.
        """
        await self._has_keys.wait()

    async def report(self, recorder: Recorder) -> None:
        """Report every second that the process does not hang, and what `recorder` has measured."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._channel.send(Alive())
            self.send_measurements(recorder)

    def send_measurements(self, recorder: Recorder) -> None:
        """Send what `recorder` has measured, if there is anything."""
        measurements = recorder.take()
        if measurements:
            self._channel.send(Measured(measurements))

    async def flush(self) -> None:
        """Wait until the kernel has taken all messages, or the supervisor has gone."""
        await self._channel.flush()

    def check_ready(self) -> None:
        """Return if an image can be captioned now.

        Raises:
            Draining: the service is stopping.
            ModelNotReady: no model process can caption at present.
            CannotStore: no image can be stored at present.
        """
        self.check_open()
        if self.state.health is not Health.HEALTHY:
            raise ModelNotReady(self.state.reported_reasons)
        if self.state.reported_health is not Health.HEALTHY:
            raise CannotStore(self.state.reported_reasons)

    def check_answerable(self) -> bool:
        """Return whether only images that the cache knows can be answered now.

        Raises:
            Draining: the service is stopping.
            ModelNotReady: no image can be answered at present.
        """
        self.check_open()
        if self.state.health is Health.HEALTHY:
            return False
        if not self.state.cache:
            raise ModelNotReady(self.state.reasons)
        return True

    def check_open(self) -> None:
        """Return if a task can be accepted now.

        Raises:
            Draining: the service is stopping.
        """
        if self.state.draining or self.closed.is_set():
            raise Draining("captiond is stopping; try again shortly")

    async def caption(
        self,
        images: Sequence[SpooledImage],
        options: Options,
        client: Client,
        *,
        seconds: float,
        known_only: bool = False,
    ) -> list[Answer]:
        """Have the spooled images of a request captioned. Return one answer for each, in order.

        An image that is not captioned within `seconds` has the answer `request_timeout`, and is
        withdrawn. So are all images if the caller is cancelled.

        With `known_only`, an image that the cache does not know is refused as `model_not_ready`
        while the model is being loaded.
        """
        if not images:
            return []
        tickets = range(self._next_ticket, self._next_ticket + len(images))
        self._next_ticket = tickets.stop
        loop = asyncio.get_running_loop()
        answers: dict[int, asyncio.Future[Answer]] = {n: loop.create_future() for n in tickets}
        self._waiting.update(answers)
        ask = Ask(tickets.start, tuple(images), options, known_only, client, time.monotonic())
        self._channel.send(ask)
        try:
            await asyncio.wait(answers.values(), timeout=seconds)
        finally:
            for ticket in tickets:
                del self._waiting[ticket]
            if late := tuple(n for n, answer in answers.items() if not answer.done()):
                self._channel.send(Drop(late))
        timeout = Refused.of(RequestTimeout(f"no caption within {seconds:g} seconds"))
        return [
            answer.result() if answer.done() else Answer(ticket, timeout)
            for ticket, answer in answers.items()
        ]

    async def metrics(self, recorder: Recorder, *, seconds: float) -> Measurements:
        """Return the metrics of all processes, with what `recorder` has measured until now.

        Those who ask at the same time share one question to the supervisor.

        Raises:
            TimeoutError: the supervisor does not answer within `seconds`.
        """
        if self._scrape is None:
            self._scrape = asyncio.get_running_loop().create_future()
            self.send_measurements(recorder)
            self._next_scrape += 1
            self._scrapes[self._next_scrape] = self._scrape
            self._channel.send(AskMetrics(self._next_scrape))
        scrape = self._scrape
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(scrape)
        except TimeoutError:
            if self._scrape is scrape:  # nobody has asked again meanwhile
                self._scrape = None  # the next one asks anew
            raise

    def on_changes(self, function: Callable[[tuple[str, ...]], None]) -> None:
        """Have `function` called with the ids of tasks that have changed."""
        self._on_changes = function

    def notify_changed(self, task_id: str) -> None:
        """Notify all web processes, through the supervisor, that this one has changed a task."""
        self._channel.send(TasksChanged((task_id,)))

    def notify_queued(self) -> None:
        """Notify the supervisor that the database holds a new task."""
        self._channel.send(Queued())

    def notify_cancelled(self, image_ids: tuple[int, ...], file: str | None) -> None:
        """Notify the supervisor that a task was cancelled.

        `image_ids` are the images that a model process works on. `file` names the spool file that
        the supervisor is to remove.
        """
        self._channel.send(Cancelled(image_ids, file))

    def _resolve_scrape(self, number: int, metrics: Measurements) -> None:
        """Give the metrics to those who wait. A late answer reaches those who still do."""
        scrape = self._scrapes.pop(number, None)
        if scrape is not None:
            scrape.set_result(metrics)
            if self._scrape is scrape:
                self._scrape = None

    def _resolve(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.ticket)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


def ignore(_: tuple[str, ...]) -> None:
    """Take the ids of changed tasks while nobody else does."""

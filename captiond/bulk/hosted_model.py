"""A model process that is run without a supervisor, for work that is no service.

A command and an actor of Ray host a model process as the service does: it has its own decoders,
and its death costs only the image that caused it. The process that hosts it needs no torch.
"""

import asyncio
import os
import secrets
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from types import ModuleType

import structlog

from captiond.backoff import backoff
from captiond.deaths import BLAME_LIMIT, Death, blame
from captiond.errors import ModelBroken, PoisonImage
from captiond.jobs import DEFAULT_OPTIONS, Lane, Options, Outcome, Refused, SpooledImage
from captiond.messages import Begun, Finished, Go, Message, ModelInfo, Ready, Unready, Work
from captiond.processes.channel import ChannelClosed
from captiond.processes.children import ChildProcess
from captiond.processes.start import ModelStart
from captiond.settings.config import Settings
from captiond.shielding import shielded
from captiond.supervisor.watch import TICK_SECONDS, Watch

log = structlog.get_logger()
MODEL = "captiond.worker.process"
MOST_FAILED_STARTS = 4  # in a row: a driver or a lack of memory may be the reason for some
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0  # seconds between two starts
NO_MAIN = ModuleType("__main__")
POISON = Refused.of(PoisonImage("the process that captioned this image died, more than once"))


@dataclass(slots=True, eq=False)
class HostedImage:
    """An image that waits for its outcome. If it has `blame`, it is captioned alone."""

    image: SpooledImage
    options: Options
    outcome: "asyncio.Future[Outcome]"
    blame: int = 0

    def resolve(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class HostedModel:
    """Keeps a model process running, and gives it images. `hosted_model` makes one.

    The model process takes only so many images at a time that its next batches are decoded while it
    captions one. The others wait here, in the order in which they came.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._waiting: deque[HostedImage] = deque()
        self._held: dict[str, HostedImage] = {}
        self._running: frozenset[str] = frozenset()
        self._window = 0
        self._child: ChildProcess | None = None
        self._numbers = count()
        self._model: asyncio.Future[ModelInfo] = asyncio.get_running_loop().create_future()

    async def model(self) -> ModelInfo:
        """Wait until the model is loaded for the first time, and return what it is.

        Raises:
            ModelBroken: the model cannot be loaded.
        """
        return await asyncio.shield(self._model)

    async def caption(self, image: SpooledImage, options: Options = DEFAULT_OPTIONS) -> Outcome:
        """Return the outcome of an image in the spool.

        Raises:
            ModelBroken: the model cannot be loaded any more.
        """
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._is_given_up:
            await self.model()  # raises
        self._waiting.append(HostedImage(image, options, outcome))
        self._send_waiting()
        return await outcome

    @property
    def _is_given_up(self) -> bool:
        return self._model.done() and self._model.exception() is not None

    async def run(self) -> None:
        """Keep the process running until cancelled, or until it has failed to start too often.

        An unexpected error is raised here and to everybody who waits: nobody awaits this while an
        image is captioned.
        """
        try:
            broken = await self._run_until_broken()
        except Exception as error:
            self._give_up(error)
            raise
        self._give_up(broken)

    async def _run_until_broken(self) -> ModelBroken:
        """Keep the process running. Return why it cannot be, once it has failed too often."""
        failures = 0
        while failures < MOST_FAILED_STARTS:
            worked, failed = await self._run_child()
            if failed is not None and failed.code != ModelBroken.code:  # nothing mends itself
                break
            failures = 1 if worked else failures + 1
            await asyncio.sleep(backoff(failures, first=FIRST_DELAY, longest=LONGEST_DELAY))
        reason = failed.reason if failed else "its process exits before the model is loaded"
        return ModelBroken(reason)

    def _give_up(self, error: Exception) -> None:
        """Let everybody who waits know that nothing will be captioned any more."""
        if self._model.done():
            self._model = asyncio.get_running_loop().create_future()
        self._model.set_exception(error)
        self._model.exception()  # so that asyncio does not report it if nobody asks
        for each in (*self._held.values(), *self._waiting):
            if not each.outcome.done():
                each.outcome.set_exception(error)
        self._held.clear()
        self._waiting.clear()

    async def _run_child(self) -> tuple[bool, Unready | None]:
        """Run one process. Return whether it loaded its model, or else what it has reported."""
        try:
            child = await self._spawn()
        except OSError as error:  # a lack of memory or of descriptors may pass
            log.error("process_not_started", role="model", reason=str(error))
            return False, None
        try:
            return await self._attend(child)
        finally:
            self._window, self._child = 0, None
            await child.end()

    async def _spawn(self) -> ChildProcess:
        def start(name: str, connection: "Connection[Message, Message]") -> ModelStart:
            return ModelStart(name, os.getpid(), self._settings, connection, self._device)

        with without_main_module():
            return await ChildProcess.spawn(f"model-{secrets.token_hex(4)}", MODEL, start)

    async def _attend(self, child: ChildProcess) -> tuple[bool, Unready | None]:
        """Handle the messages of a process until it has exited, and what its exit requires."""
        self._child = child
        watch = Watch(self._settings.model.silence_seconds, self._settings.model.batch_seconds)
        worked, failed = False, None
        child.channel.send(Go())
        watching = asyncio.create_task(self._kill_when_hung(child, watch))
        try:
            while True:
                message = await child.channel.receive()
                watch.received(new_batch=isinstance(message, Begun))
                worked = worked or isinstance(message, Ready)
                failed = message if isinstance(message, Unready) else failed
                self._receive(message)
        except ChannelClosed:
            code = await child.exited()
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        hung = not watching.cancelled() and watching.result()
        self._lost(hung or Death.by(code), code)
        return worked, failed

    def _receive(self, message: Message) -> None:
        match message:
            case Ready(model, window):
                self._window = window
                if not self._model.done():
                    self._model.set_result(model)
            case Begun(tickets):
                self._running = frozenset(tickets)
            case Finished(ticket, outcome):
                if (image := self._held.pop(ticket, None)) is not None:
                    image.resolve(outcome)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Give waiting images to the process, as many as it takes."""
        while self._child is not None and self._waiting and len(self._held) < self._window:
            image = self._waiting.popleft()
            ticket = str(next(self._numbers))
            self._held[ticket] = image
            self._child.channel.send(
                Work(
                    ticket,
                    Lane.BULK,
                    image.image,
                    options=image.options,
                    alone=image.blame > 0,
                )
            )

    async def _kill_when_hung(self, child: ChildProcess, watch: Watch) -> Death:
        """Wait until a process is hung, and kill it. Return how its images are to be blamed."""
        reason = None
        while reason is None:
            await asyncio.sleep(TICK_SECONDS)
            reason = watch.tick(busy=bool(self._running & self._held.keys()))
        stopped = child.is_stopped()
        log.error("model_hung", child=child.name, reason=reason, stopped=stopped)
        child.kill()
        return Death.KILLED if stopped else Death.HUNG

    def _lost(self, death: Death, code: int) -> None:
        """Let the images of a dead process wait again, and blame those that it was captioning."""
        running = self._running & self._held.keys()
        if death is not Death.ORDERLY:
            log.error("model_died", child="model", exit_code=code)
        points = blame(death, len(running))
        for ticket, image in reversed(self._held.items()):
            # guard: hosted-death-blames-running-images
            image.blame += points if ticket in running else 0
            if image.blame >= BLAME_LIMIT:
                image.resolve(POISON)
            else:
                self._waiting.appendleft(image)
        self._held.clear()
        self._running = frozenset()


@contextmanager
def without_main_module() -> Iterator[None]:
    """Start processes in the block that do not import the main module of this one.

    multiprocessing imports it in each new process, for classes that are defined there. The main
    module of an actor imports all of Ray, and a script may have no guard for it. Our processes are
    started with classes of captiond only. Models of several devices are started at once: only the
    first of their blocks replaces the module.
    """
    main = sys.modules["__main__"]
    if main is NO_MAIN:
        yield
        return
    sys.modules["__main__"] = NO_MAIN
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@asynccontextmanager
async def hosted_model(settings: Settings, device: str) -> AsyncIterator[HostedModel]:
    """Run a model process within the block. It begins to load its model at once."""
    model = HostedModel(settings, device)
    running = asyncio.create_task(model.run())
    try:
        yield model
    finally:
        running.cancel()
        await shielded(asyncio.wait([running]))
        if not running.cancelled():
            running.result()  # raises what has ended it

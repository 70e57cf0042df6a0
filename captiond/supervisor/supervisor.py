"""The supervisor: owns the process tree, the claims and the routing. No torch, no HTTP server."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.connection import Connection

import structlog

from captiond.config import Settings
from captiond.errors import CaptiondError, Draining, ModelNotReady, StoreError
from captiond.jobs import Death, Lane, Refused
from captiond.messages import (
    Alive,
    Ask,
    Begun,
    Cancelled,
    Drain,
    Drop,
    Finished,
    Go,
    Health,
    Message,
    Queued,
    Ready,
    State,
    Unready,
    Work,
)
from captiond.processes.channel import ChannelClosed
from captiond.processes.children import Child
from captiond.processes.start import ModelStart, WebStart
from captiond.spool import open_spool
from captiond.store import claims, tasks
from captiond.store.maintenance import checkpoint
from captiond.store.patience import until_stored
from captiond.store.sqlite import Engine
from captiond.supervisor.courier import Courier
from captiond.supervisor.dispatch import Dispatcher, Loss, Reply, Withdrawal
from captiond.supervisor.health import ModelHealth
from captiond.supervisor.places import Place
from captiond.supervisor.retention import tidy_forever
from captiond.supervisor.watch import TICK_SECONDS, Watch
from captiond.systemd import Notifier

log = structlog.get_logger()
WEB, MODEL = "captiond.web.server", "captiond.worker.process"
POLL_SECONDS = 5.0  # a hint may be lost; the database is asked again after so long
CHECKPOINT_SECONDS = 2.0
LAST_SECONDS = 1.0  # after a stop's deadline, to note what became of children that were killed


class Supervisor:
    """One service: `run` is its whole life, which ends in a drain once `stop` is set."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        engine: Engine,
        notifier: Notifier,
        stop: asyncio.Event,
        courier: Courier,
    ) -> None:
        self._settings = settings
        self._spool = open_spool(settings)
        self._listener = listener
        self._engine = engine
        self._notifier = notifier
        self._stop = stop
        self._courier = courier
        self._dispatcher = Dispatcher(settings.limits.waiting_images)
        self._health = ModelHealth()
        self._webs: dict[str, Child] = {}
        self._models: dict[str, Child] = {}
        self._told = State()
        self._wake, self._claim = asyncio.Event(), asyncio.Event()
        self._bulk_waits = True

    async def run(self) -> None:
        """Serve, then drain.

        Raises:
            ExceptionGroup: something failed that no child's restart mends; all children end.
        """
        await self._recover()
        async with asyncio.TaskGroup() as group:
            webs = [group.create_task(place.keep(self._stop)) for place in self._web_places()]
            models = [group.create_task(place.keep(self._stop)) for place in self._model_places()]
            loops = [
                group.create_task(self._dispatch_forever()),
                group.create_task(self._claim_forever()),
                group.create_task(self._poll_forever()),
                group.create_task(self._checkpoint_forever()),
                group.create_task(self._courier.run()),
                group.create_task(tidy_forever(self._settings, self._engine)),
            ]
            self._notifier.ready("loading the model")
            await self._stop.wait()
            await self._drain(webs, models)
            for loop in loops:
                loop.cancel()
        await self._put_back()

    # ------------------------------------------------------------ start and end

    async def _recover(self) -> None:
        """Take up what an earlier life left: unfinished images wait again, orphans are removed."""
        requeued = await claims.requeue(self._engine, now=time.time())
        keep = await tasks.needed_spool_names(self._engine)
        swept = await asyncio.to_thread(self._spool.sweep, keep)
        log.info("recovered", waiting=len(keep), requeued=requeued, orphans_removed=swept)

    async def _put_back(self) -> None:
        """Let what is left wait for the next start, which would see to it as well."""
        try:
            await claims.requeue(self._engine, now=time.time())
            await checkpoint(self._engine)
        except StoreError as error:
            log.error("left_as_it_is", reason=str(error))

    def _web_places(self) -> list[Place]:
        numbers = range(self._settings.server.workers)
        return [Place(f"web{n}", WEB, self._web_start, self._attend_web) for n in numbers]

    def _model_places(self) -> list[Place]:
        """One for each device that the settings name."""
        places = []
        for number, device in enumerate(self._settings.model.devices):
            make_start = partial(self._model_start, device)
            places.append(Place(f"model{number}", MODEL, make_start, self._attend_model))
            self._health.places[places[-1].name] = None
        return places

    def _web_start(self, name: str, connection: "Connection[Message, Message]") -> WebStart:
        return WebStart(name, os.getpid(), self._settings, connection, self._listener)

    def _model_start(
        self, device: str, name: str, connection: "Connection[Message, Message]"
    ) -> ModelStart:
        return ModelStart(name, os.getpid(), self._settings, connection, device)

    async def _drain(self, *kinds: list[asyncio.Task[None]]) -> None:
        """Let the web processes answer what they took, then the model processes finish a batch.

        What is not done by the deadline is cut short; images that were accepted wait in the
        database for the next start.
        """
        seconds = self._settings.server.shutdown_seconds
        log.info("draining", deadline_seconds=seconds)
        self._notifier.stopping()
        self._tell_state()
        self._refuse_if_nobody_comes()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for children, places in zip((self._webs, self._models), kinds, strict=True):
                    for child in children.values():
                        self._drain_child(child)
                    await asyncio.wait(places)
        for child in [*self._webs.values(), *self._models.values()]:
            log.warning("cut_short", child=child.name)
            child.kill()
        places = [place for kind in kinds for place in kind]
        await asyncio.wait(places, timeout=LAST_SECONDS)
        for place in places:  # one may still wait for room on the disk
            place.cancel()

    def _drain_child(self, child: Child) -> None:
        """Tell it to come to its end; a model process that is still loading has nothing to end."""
        if child.name in self._models and not self._dispatcher.has(child.name):
            child.kill()
        else:
            child.channel.send(Drain())

    # ------------------------------------------------------------ children

    async def _attend_web(self, place: Place, child: Child) -> None:
        child.channel.send(self._told)
        self._webs[child.name] = child
        code = await self._hear_out(child, partial(self._take_from_web, place, child))
        del self._webs[child.name]
        self._withdraw(self._dispatcher.web_gone(child.name))
        keep = await until_stored(lambda: tasks.needed_spool_names(self._engine))
        swept = await asyncio.to_thread(self._spool.sweep, keep, owner=child.name)
        if code != 0:
            log.error("web_died", child=child.name, exit_code=code, files_removed=swept)

    async def _attend_model(self, place: Place, child: Child) -> None:
        self._models[child.name] = child
        watch = Watch(self._settings.model.silence_seconds, self._settings.model.batch_seconds)
        ready = asyncio.Event()
        take = partial(self._take_from_model, place, child, watch, ready)
        watching = asyncio.create_task(self._watch(child, watch))
        standing_by = asyncio.create_task(self._stand_by(place, ready))
        child.channel.send(Go())
        try:
            code = await self._hear_out(child, take)
        finally:
            watching.cancel()
            standing_by.cancel()
        if code != 0:
            log.error("model_died", child=child.name, exit_code=code)
        del self._models[child.name]
        self._health.lose(place.name)
        loss = self._dispatcher.model_gone(child.name, self._death(code, watching))
        self._tell_state()  # first: who is answered 503 may look at once whether to try again
        self._reply(loss.replies)
        if self._stop.is_set():
            self._refuse_if_nobody_comes()
        await self._requeue(child.name, loss)

    async def _stand_by(self, place: Place, ready: asyncio.Event) -> None:
        """Once a model captions, let its replacement begin to import what takes so long."""
        await ready.wait()
        if self._settings.model.standby:
            try:
                await place.stand_by()
            except OSError as error:
                log.warning("no_standby", reason=str(error))

    def _death(self, exit_code: int, watching: "asyncio.Task[Death]") -> Death:
        if self._stop.is_set():  # a drain may cut a batch short
            return Death.ORDERLY
        if watching.done() and not watching.cancelled():
            return watching.result()
        return Death.by(exit_code)

    async def _watch(self, child: Child, watch: Watch) -> Death:
        """Kill the child once it is hung; returns then, and only then.

        One that somebody has stopped (SIGSTOP) says as little as one that hangs, but it is no
        image's doing.
        """
        hung = None
        while hung is None:
            await asyncio.sleep(TICK_SECONDS)
            hung = watch.tick(busy=bool(self._dispatcher.running(child.name)))
        stopped = child.is_stopped()
        log.error("model_hung", child=child.name, reason=hung, stopped=stopped)
        child.kill()
        return Death.KILLED if stopped else Death.HUNG

    async def _hear_out(self, child: Child, take: Callable[[Message], None]) -> int:
        """Take a child's messages until it has ended; its exit code."""
        log.debug("child_started", child=child.name, pid=child.process.pid)
        ended = asyncio.create_task(child.ended())
        try:
            with contextlib.suppress(ChannelClosed):
                while True:
                    take(await child.channel.receive())
                    self._stir()
            return await ended
        finally:
            ended.cancel()

    async def _requeue(self, model: str, loss: Loss | None = None) -> None:
        """Put back what a model process had in hand; its ended tasks' files are removed."""
        blamed = loss.blamed if loss else {}
        requeued = await until_stored(
            lambda: claims.requeue(self._engine, now=time.time(), owner=model, blamed=blamed)
        )
        if requeued:
            log.info("requeued", images=requeued, model=model, under_suspicion=len(blamed))
        if loss and loss.bulk:
            keep = await until_stored(lambda: tasks.needed_spool_names(self._engine))
            self._spool.remove({work.image.file for work in loss.bulk} - keep)
        self._bulk_waits = True
        self._stir()

    # ------------------------------------------------------------ messages

    def _take_from_web(self, place: Place, child: Child, message: Message) -> None:
        match message:
            case Alive():
                place.worked()
            case Ask():
                self._reply(self._dispatcher.ask(child.name, message))
                if self._stop.is_set():
                    self._refuse_if_nobody_comes()
            case Drop(ticket):
                self._withdraw(self._dispatcher.drop(child.name, ticket))
            case Queued():
                self._bulk_waits = True
            case Cancelled(image_ids):
                self._withdraw(self._dispatcher.cancel(frozenset(image_ids)))
            case _:
                raise TypeError(f"a web process sends no {type(message).__name__}")

    def _take_from_model(
        self, place: Place, child: Child, watch: Watch, ready: asyncio.Event, message: Message
    ) -> None:
        watch.heard(new_batch=isinstance(message, Begun))
        match message:
            case Alive():
                pass
            case Ready(model, window):
                log.info(
                    "model_ready",
                    model=model.name,
                    device=model.device,
                    precision=model.precision,
                    batch_size=model.batch_size,
                )
                ready.set()
                place.worked()
                self._dispatcher.model_ready(child.name, window)
                self._health.hear(place.name, message)
                self._tell_state()
            case Unready(reason, code):
                log.error("model_not_ready", reason=reason, code=code)
                self._health.hear(place.name, message)
                self._tell_state()
                if self._told.health is Health.UNHEALTHY:
                    self._refuse_waiting(ModelNotReady(self._told.reasons))
            case Begun(tickets):
                self._dispatcher.model_begun(child.name, tickets)
            case Finished():
                self._settle(child.name, message)
            case _:
                raise TypeError(f"a model process sends no {type(message).__name__}")

    def _settle(self, model: str, finished: Finished) -> None:
        work, replies = self._dispatcher.settle(model, finished)
        self._reply(replies)
        if work is not None and work.lane is Lane.BULK and finished.task is not None:
            if not finished.task.keeps_file:
                self._spool.remove([work.image.file])
            self._courier.hint()

    def _withdraw(self, withdrawals: Iterable[Withdrawal]) -> None:
        for withdrawal in withdrawals:
            if withdrawal.model in self._models:
                self._models[withdrawal.model].channel.send(withdrawal.message)

    def _reply(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            if reply.web in self._webs:
                self._webs[reply.web].channel.send(reply.answer)

    def _refuse_if_nobody_comes(self) -> None:
        """In a drain no other model process is started."""
        if not self._models:
            self._refuse_waiting(Draining("captiond is stopping; try again shortly"))

    def _refuse_waiting(self, error: CaptiondError) -> None:
        """Answer the interactive images that no model process will come for."""
        self._reply(self._dispatcher.refuse_waiting(Refused.of(error)))

    def _tell_state(self) -> None:
        state = self._health.state(draining=self._stop.is_set())
        if state == self._told:
            return
        self._told = state
        for child in self._webs.values():
            child.channel.send(state)
        if state.health is Health.HEALTHY and state.model is not None:
            self._notifier.status(f"captioning with {state.model.name}")
        elif not state.draining:
            self._notifier.status("; ".join(state.reasons))

    # ------------------------------------------------------------ work

    async def _dispatch_forever(self) -> None:
        while True:
            self._wake.clear()
            for model, work in self._dispatcher.assign_interactive():
                self._models[model].channel.send(work)
            await self._wake.wait()

    async def _claim_forever(self) -> None:
        """Apart from the interactive images, which need not wait for the database."""
        while True:
            self._claim.clear()
            if self._bulk_waits and not self._stop.is_set():
                await self._claim_bulk()
            await self._claim.wait()

    def _stir(self) -> None:
        """Something has changed: there may be work, or somebody who can take some."""
        self._wake.set()
        self._claim.set()

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._bulk_waits = True
            self._stir()

    async def _claim_bulk(self) -> None:
        for model, room in self._dispatcher.bulk_room():
            self._bulk_waits = False  # before the claim: a hint that comes meanwhile counts
            try:
                taken = await claims.claim(self._engine, room, owner=model, now=time.time())
            except StoreError as error:
                log.error("claim_failed", reason=str(error))  # the next poll tries again
                return
            self._bulk_waits |= len(taken) == room
            if model not in self._models:
                await self._requeue(model)  # it died while its images were being claimed
                continue
            for claim in taken:
                work = bulk_work(claim)
                self._dispatcher.assign_bulk(model, work)
                self._models[model].channel.send(work)

    async def _checkpoint_forever(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            try:
                await checkpoint(self._engine)
            except StoreError as error:
                log.error("checkpoint_failed", reason=str(error))


def bulk_work(claim: claims.Claim) -> Work:
    return Work(
        ticket=f"image:{claim.image_id}:{claim.attempt}",
        lane=Lane.BULK,
        image=claim.image,
        image_id=claim.image_id,
        attempt=claim.attempt,
        options=claim.options,
        alone=claim.blame > 0,
    )

"""The supervisor: it owns the process tree, the claims and the routing of messages.

It imports neither torch nor an HTTP server. Its parts:

- `restarter`, `attendance`, `roster`: the child processes, from their start to their replacement.
- `routing`, `dispatch`, `assignment`: which image goes to which model process.
- `changes`: which tasks have changed, for the web processes.
- `membership`, `peers`, `remote_model`, `remote_clients`: the other nodes that share the database.
- `health`, `statusboard`, `watch`, `watchdog`: what the service can do now, and what is hung.
- `courier`, `keyring`, `retention`, `steadyclock`, `spoolusage`, `cleaner`, `prefixowner`:
  webhooks, keys, the deletion of expired data, and the spool.
- `gauges`, `processfigures`, `scrapes`, `metricsfile`: metrics.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import structlog

from captiond.authority import local_url
from captiond.host.systemd import Notifier
from captiond.messages import Health, Message, ModelInfo
from captiond.processes.start import ModelStart, WebStart
from captiond.recording import Recorder, Registry
from captiond.settings.config import Settings
from captiond.spool import open_objects, open_spool
from captiond.store import leases, tasks
from captiond.store.engine import Engine
from captiond.store.maintenance import checkpoint
from captiond.store.outage import StorageOutage
from captiond.supervisor.assignment import Assignment
from captiond.supervisor.attendance import ModelAttendance, WebAttendance
from captiond.supervisor.changes import TaskChanges
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.courier import Courier
from captiond.supervisor.dispatch import Dispatcher
from captiond.supervisor.gauges import Gauges
from captiond.supervisor.keyring import KeyRing
from captiond.supervisor.membership import Membership
from captiond.supervisor.metricsfile import MetricsFile
from captiond.supervisor.nodereport import NodeReport
from captiond.supervisor.peers import Peers
from captiond.supervisor.prefixowner import confirm_prefix
from captiond.supervisor.remote_clients import RemoteClients
from captiond.supervisor.remote_model import NAME as ELSEWHERE
from captiond.supervisor.remote_model import RemoteModel
from captiond.supervisor.restarter import Restarter
from captiond.supervisor.retention import tidy_forever
from captiond.supervisor.roster import DrainStage, Roster
from captiond.supervisor.routing import Router
from captiond.supervisor.scrapes import Scrapes
from captiond.supervisor.spoolusage import SpoolUsage
from captiond.supervisor.statusboard import StatusBoard
from captiond.supervisor.steadyclock import SteadyClock
from captiond.supervisor.watchdog import Watchdog, asker
from captiond.usage import UsageBoard

log = structlog.get_logger()
WEB, MODEL = "captiond.web.server", "captiond.worker.process"
CHECKPOINT_SECONDS = 2.0
GRACE_SECONDS = 1.0  # after a stop's deadline, for what follows from the exit of killed children
Running = asyncio.Task[None]


class Supervisor:
    """One service. `run` is its whole life."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        engine: Engine,
        node: str,
        notifier: Notifier,
        courier: Courier,
        keyring: KeyRing,
        clock: SteadyClock,
        recorder: Recorder,
        announce: Callable[[ModelInfo], None],
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._engine = engine
        self._node = node
        self._peers = Peers(engine, node)
        self._notifier = notifier
        self._courier = courier
        self._keyring = keyring
        self._clock = clock
        self._recorder = recorder
        self._registry = Registry()
        self._client_usage = UsageBoard(web_processes(settings))
        self._roster = Roster()
        spool = open_spool(settings)
        self._cleaner = SpoolCleaner(
            spool,
            partial(tasks.needed_spool_names, engine),
            confirm=partial(confirm_prefix, open_objects(settings), engine),
        )
        self._dispatcher = Dispatcher(settings.limits.waiting_images)
        self._status = StatusBoard(
            self._roster, notifier, list(self._devices()) or [ELSEWHERE], announce=announce
        )
        self._changes = TaskChanges(self._roster, self._peers)
        self._assignment = Assignment(
            self._dispatcher,
            self._roster,
            engine,
            self._node,
            recorder,
            self._cleaner,
            courier,
            self._changes,
            lease_seconds=settings.node.lease_seconds,
        )
        self._usage = SpoolUsage(
            settings, engine, spool, self._cleaner, self._status, self._registry
        )
        gauges = Gauges(
            settings,
            self._registry,
            recorder,
            self._dispatcher,
            self._status,
            self._roster,
            engine,
        )
        self._scrapes = Scrapes(self._registry, self._roster, gauges.refresh)
        self._router = Router(
            self._dispatcher,
            self._assignment,
            self._roster,
            self._status,
            self._cleaner,
            courier,
            self._changes,
            self._registry,
            recorder,
            self._scrapes,
            self._peers,
        )
        shared = (engine, node, spool, self._roster, self._router, self._peers)
        self._remote_model: RemoteModel | None = None
        self._remote_clients: RemoteClients | None = None
        if settings.node.has_model:
            self._remote_clients = RemoteClients(*shared, self._dispatcher, self._cleaner)
        else:
            self._remote_model = RemoteModel(*shared)
        self._membership = Membership(
            engine,
            node,
            self._dispatcher,
            self._assignment,
            self._router,
            self._status,
            self._peers,
            self._remote_model.reports_read if self._remote_model else ignore,
            uploads=settings.uploads.url,
            lease_seconds=settings.node.lease_seconds,
        )
        self._watchdog = Watchdog(
            notifier,
            asker(local_url(*listener.getsockname()[:2])),
            lambda: self._status.state.health is Health.HEALTHY and self._dispatcher.busy,
            lambda: self._router.finished,
            lambda: self._membership.results_wait,
            lambda: self._roster.draining,
            batch_seconds=settings.model.batch_seconds,
        )
        self._metrics = MetricsFile(settings.metrics_file, self._registry, gauges.refresh)

    def dump_metrics(self) -> None:
        """Have the metrics of all processes written to `Settings.metrics_file` soon."""
        self._metrics.request()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain.

        Raises:
            ExceptionGroup: something failed that the restart of a child does not mend. All children
                have been killed.
        """
        async with asyncio.TaskGroup() as group:
            cleaning = group.create_task(self._cleaner.run())
            await self._measure_spool_at_start()
            self._status.keys_changed(self._keyring.keys)
            webs = [group.create_task(each.run(stop)) for each in self._web_restarters()]
            if self._remote_clients is not None:
                webs.append(group.create_task(self._remote_clients.run()))
            models = [group.create_task(each.run(stop)) for each in self._model_restarters()]
            loops = [group.create_task(loop) for loop in self._loops()]
            self._notifier.ready("loading the model")
            await stop.wait()
            await self._drain(webs, models)
            for loop in [*loops, cleaning]:
                loop.cancel()
        await self._leave_database()

    def _loops(self) -> Iterable[Coroutine[Any, Any, None]]:
        """Return the loops of the service. An error that ends one of them ends the service."""
        return (
            self._assignment.run_interactive(),
            *self._loops_of_models(),
            self._peers.run_listening(self._assignment.bulk_hint),
            self._peers.run_sending(),
            self._membership.run_renewals(),
            self._membership.run_reports(),
            self._changes.run(),
            self._checkpoint_forever(),
            self._courier.run(),
            self._keyring.run(self._status.keys_changed),
            self._usage.run(),
            self._metrics.run(),
            self._scrapes.run(),
            self._watchdog.run(),
            tidy_forever(self._settings, self._engine, self._cleaner, self._clock),
        )

    def _loops_of_models(self) -> Iterable[Coroutine[Any, Any, None]]:
        """Return the loops for the models of this node, or for those of the others."""
        if self._remote_model is not None:
            return (self._remote_model.run(),)
        return self._assignment.run_bulk(), self._assignment.run_poll()

    # ------------------------------------------------------------ children

    def _web_restarters(self) -> list[Restarter]:
        attendance = WebAttendance(
            self._roster, self._router, self._status, self._cleaner, self._recorder
        )
        return [
            Restarter(f"web{number}", WEB, partial(self._web_start, number), attendance.attend)
            for number in range(web_processes(self._settings))
        ]

    def _model_restarters(self) -> list[Restarter]:
        attendance = ModelAttendance(
            self._settings.model,
            self._roster,
            self._router,
            self._assignment,
            self._cleaner,
            self._recorder,
        )
        return [
            Restarter(role, MODEL, partial(self._model_start, device), attendance.attend)
            for role, device in self._devices().items()
        ]

    def _devices(self) -> dict[str, str]:
        """Return the device of each model process, by the process's role."""
        devices = enumerate(self._settings.model.devices if self._settings.node.has_model else [])
        return {f"model{number}": device for number, device in devices}

    def _web_start(
        self, number: int, name: str, connection: "Connection[Message, Message]"
    ) -> WebStart:
        return WebStart(
            name,
            os.getpid(),
            self._settings,
            connection,
            self._listener,
            self._client_usage,
            number,
        )

    def _model_start(
        self, device: str, name: str, connection: "Connection[Message, Message]"
    ) -> ModelStart:
        owner = leases.owner_of(self._node, name)
        return ModelStart(name, os.getpid(), self._settings, connection, device, owner)

    # ------------------------------------------------------------ start and stop

    async def _measure_spool_at_start(self) -> None:
        """Remove what an earlier run left in the spool, while no web process writes to it."""
        swept = await self._cleaner.sweep_at_start()
        log.info("spool_swept", files_removed=swept)
        await self._usage.measure_at_start()

    async def _drain(self, webs: list[Running], models: list[Running]) -> None:
        """Let web processes answer what they have, then let model processes finish their batch.

        After `[server] shutdown_seconds`, kill what still runs. Images of tasks are safe: they wait
        in the database for the next start.
        """
        seconds = self._settings.server.shutdown_seconds
        log.info("draining", deadline_seconds=seconds)
        self._notifier.stopping()
        self._roster.advance(DrainStage.ANNOUNCED)
        self._status.publish()
        self._router.refuse_if_stopping()
        with contextlib.suppress(TimeoutError):
            # guard: drain-deadline
            async with asyncio.timeout(seconds):
                self._roster.advance(DrainStage.WEB)
                if self._remote_clients is not None:
                    self._remote_clients.wake()
                await finished(webs)
                self._roster.advance(DrainStage.MODEL)
                await finished(models)
        self._roster.advance(DrainStage.OVERDUE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                await finished([*webs, *models])
                await self._cleaner.finish()
        for each in [*webs, *models]:  # one may still wait for a database that cannot be written
            # guard: stop-cancels-restarters
            each.cancel()

    async def _leave_database(self) -> None:
        """Requeue what is left. The next start would do so as well, so an error does no harm."""
        with StorageOutage("end of the service").tolerated():
            await leases.release(self._engine, self._node)
            await self._clock.save()
            await checkpoint(self._engine)

    # ------------------------------------------------------------ loops

    async def _checkpoint_forever(self) -> None:
        outage = StorageOutage("checkpoint")
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            with outage.tolerated():
                await checkpoint(self._engine)


def web_processes(settings: Settings) -> int:
    """Return how many web processes there are: one is enough for probes and metrics."""
    return settings.server.workers if settings.node.has_api else 1


def ignore(_: Mapping[str, NodeReport | None]) -> None:
    """Take no notice of what other nodes report: this node has models of its own."""


async def finished(running: Sequence[Running]) -> None:
    """Wait until all of these have ended, whether well or not."""
    if running:
        await asyncio.wait(running)

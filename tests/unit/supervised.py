"""The parts of a supervisor, put together for tests, and real child processes for them."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from captiond.host.systemd import Notifier
from captiond.jobs import TaskView
from captiond.messages import Message
from captiond.processes.children import ChildProcess
from captiond.processes.start import Start
from captiond.recording import Recorder, Registry
from captiond.settings.config import DataSettings, Settings
from captiond.spool import open_spool
from captiond.store import tasks
from captiond.store.engine import Engine
from captiond.supervisor.assignment import Assignment
from captiond.supervisor.attendance import ModelAttendance, WebAttendance
from captiond.supervisor.changes import TaskChanges
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.courier import Courier
from captiond.supervisor.dispatch import Dispatcher
from captiond.supervisor.membership import Membership
from captiond.supervisor.payloads import Payloads, ShowTask
from captiond.supervisor.peers import Peers
from captiond.supervisor.roster import Roster
from captiond.supervisor.routing import Router
from captiond.supervisor.scrapes import Scrapes
from captiond.supervisor.statusboard import StatusBoard
from captiond.supervisor.steadyclock import SteadyClock
from captiond.web.import_schemas import import_item
from tests.patience import PATIENCE

DRAINABLE = "tests.unit.drainable"

NODE = "test-node"


def settings_in(folder: Path) -> Settings:
    """Settings with a data folder whose spool is there."""
    settings = Settings(data=DataSettings(dir=folder))
    settings.spool.mkdir(exist_ok=True)
    return settings


def show_id(task: TaskView) -> Mapping[str, object]:
    return {"task_id": task.id}


def payloads(store: Engine, show: ShowTask = show_id) -> Payloads:
    """The bodies of webhooks, with no more of a task than its id."""
    return Payloads(store, show, import_item)


def starting(settings: Settings) -> Callable[[str, "Connection[Message, Message]"], Start]:
    """How a child process of these settings is started."""

    def start(name: str, connection: "Connection[Message, Message]") -> Start:
        return Start(name, os.getpid(), settings, connection)

    return start


@asynccontextmanager
async def spawned(settings: Settings, name: str) -> AsyncIterator[ChildProcess]:
    """A real child process that exits with 1 when it is drained."""
    child = await ChildProcess.spawn(name, DRAINABLE, starting(settings))
    try:
        async with asyncio.timeout(PATIENCE):
            yield child
    finally:
        child.kill()
        await child.exited()
        child.close()


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """A task that runs while the block does."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until a condition holds. The task that is to fulfil it may have failed."""
    async with asyncio.timeout(PATIENCE):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.005)


@dataclass(frozen=True)
class Parts:
    """What `Supervisor` puts together, without its loops."""

    settings: Settings
    roster: Roster
    dispatcher: Dispatcher
    assignment: Assignment
    status: StatusBoard
    cleaner: SpoolCleaner
    router: Router
    registry: Registry
    recorder: Recorder
    peers: Peers

    @property
    def web(self) -> WebAttendance:
        return WebAttendance(self.roster, self.router, self.status, self.cleaner, self.recorder)

    @property
    def model(self) -> ModelAttendance:
        return ModelAttendance(
            self.settings.model,
            self.roster,
            self.router,
            self.assignment,
            self.cleaner,
            self.recorder,
        )


def membership_of(parts: Parts, store: Engine, node: str = NODE) -> Membership:
    """Return what makes this node one among others."""
    return Membership(
        store,
        node,
        parts.dispatcher,
        parts.assignment,
        parts.router,
        parts.status,
        parts.peers,
        lambda _: None,
    )


async def nothing() -> None:
    """Bring no metrics up to date."""


@asynccontextmanager
async def supervised(folder: Path, store: Engine) -> AsyncIterator[Parts]:
    """The parts, with a cleaner that works while the block runs."""
    settings = settings_in(folder)
    roster, dispatcher = Roster(), Dispatcher(settings.limits.waiting_images)
    recorder, registry = Recorder(), Registry()
    status = StatusBoard(roster, Notifier({}), ["model0"])
    cleaner = SpoolCleaner(open_spool(settings), partial(tasks.needed_spool_names, store))
    courier = Courier(settings, store, payloads(store), SteadyClock(store))
    peers = Peers(store, NODE)
    changes = TaskChanges(roster, peers)
    assignment = Assignment(dispatcher, roster, store, NODE, recorder, cleaner, courier, changes)
    scrapes = Scrapes(registry, roster, nothing)
    router = Router(
        dispatcher,
        assignment,
        roster,
        status,
        cleaner,
        courier,
        changes,
        registry,
        recorder,
        scrapes,
        peers,
    )
    parts = Parts(
        settings,
        roster,
        dispatcher,
        assignment,
        status,
        cleaner,
        router,
        registry,
        recorder,
        peers,
    )
    async with background(cleaner.run()), asyncio.timeout(PATIENCE):
        yield parts
        await cleaner.finish()

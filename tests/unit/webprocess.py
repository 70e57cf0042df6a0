"""The web application in the test's own process, with a real store, a real spool and a real pipe.

The test itself is the supervisor at the other end of the pipe.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from captiond.jobs import Outcome
from captiond.keys import Key
from captiond.messages import (
    Alive,
    Answer,
    Ask,
    AskMetrics,
    Cancelled,
    Health,
    Keys,
    Message,
    MetricsAnswer,
    ModelInfo,
    State,
)
from captiond.processes.channel import Channel
from captiond.processes.start import SPAWN
from captiond.recording import Measurements, Recorder
from captiond.settings.config import DataSettings, Settings
from captiond.spool import open_spool
from captiond.store.engine import Engine
from captiond.usage import ClientUsage, UsageBoard
from captiond.web.access.allowances import Allowances
from captiond.web.app import make_app
from captiond.web.async_tasks.event_log import EventLog
from captiond.web.async_tasks.queue_place import QueuePlaces
from captiond.web.async_tasks.status_cache import StatusCache
from captiond.web.async_tasks.task_queue import TaskQueue
from captiond.web.async_tasks.task_watch import TaskWatch, waiters_for
from captiond.web.services import Services
from captiond.web.supervisor_client import SupervisorClient
from captiond.web.uploading.spool_room import SpoolRoom
from captiond.web.uploading.upload_memory import UploadMemory
from tests.patience import PATIENCE
from tests.unit.supervised import until

MODEL = ModelInfo("m", "m", "f", "cpu", "fp32", 8)
HEALTHY = State(health=Health.HEALTHY, model=MODEL, reasons=())
PNG = b"\x89PNG\r\n\x1a\n and more"


@dataclass
class WebProcess:
    """The application's client and services, and the supervisor's end of the pipe."""

    client: httpx.AsyncClient
    services: Services
    channel: Channel
    spool: Path

    async def message(self, kind: type[Message]) -> Any:
        """Return the next message of a kind that the web process sends."""
        async with asyncio.timeout(PATIENCE):
            while not isinstance(message := await self.channel.receive(), kind):
                pass
        return message

    async def cancelled(self) -> Cancelled:
        message: Cancelled = await self.message(Cancelled)
        return message

    async def answer(self, outcome: Outcome) -> None:
        """Answer the next image that the web process asks for."""
        ask: Ask = await self.message(Ask)
        self.channel.send(Answer(ask.ticket, outcome))

    async def request(
        self, method: str, path: str, headers: dict[str, str] | dict[bytes, bytes]
    ) -> httpx.Response:
        """Make a request, and answer if it makes the web process ask for metrics."""

        async def answer() -> None:
            ask: AskMetrics = await self.message(AskMetrics)
            self.channel.send(MetricsAnswer(ask.number, Measurements()))

        answering = asyncio.create_task(answer())
        try:
            return await self.client.request(method, path, headers=headers)
        finally:
            answering.cancel()

    async def set_keys(self, *keys: Key, required: bool = True) -> None:
        """Send the valid keys, and wait until the web process has them."""
        before = self.services.supervisor.keys
        self.channel.send(Keys(keys, required))
        await until(lambda: self.services.supervisor.keys is not before)

    async def set_state(self, state: State) -> None:
        """Send a state, and wait until the web process has it."""
        self.channel.send(state)
        await until(lambda: self.services.supervisor.state == state)


@asynccontextmanager
async def web_process(
    store: Engine, folder: Path, *, state: State = HEALTHY, **sections: Any
) -> AsyncIterator[WebProcess]:
    """Run the application; `sections` are sections of the settings."""
    settings = Settings(data=DataSettings(dir=folder), **sections)
    settings.spool.mkdir(exist_ok=True)
    theirs, ours = SPAWN.Pipe(duplex=True)
    channel, supervisor = await Channel.open(theirs), SupervisorClient(await Channel.open(ours))
    queue = TaskQueue(store)
    places = QueuePlaces(store, queue, lambda: supervisor.state.bulk_rate)
    watch = TaskWatch(store, waiters_for(settings.server.connections))
    supervisor.on_changes(watch.hint)
    spool = open_spool(settings)
    services = Services(
        settings=settings,
        engine=store,
        spool=spool,
        owner="web0",
        supervisor=supervisor,
        queue=queue,
        statuses=StatusCache(store, places),
        watch=watch,
        events=EventLog(store),
        upload_memory=UploadMemory(),
        spool_room=SpoolRoom(settings.limits, lambda: supervisor.state, remote=spool.remote),
        allowances=Allowances(settings),
        usage=ClientUsage(UsageBoard(1), 0, window=settings.clients.window_seconds),
        recorder=Recorder(),
    )
    transport = httpx.ASGITransport(make_app(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        process = WebProcess(client, services, channel, settings.spool)
        listening = asyncio.create_task(supervisor.listen())
        watching = asyncio.create_task(watch.run(supervisor.closed))
        await process.message(Alive)
        channel.send(Keys())
        await process.set_state(state)
        try:
            yield process
        finally:
            channel.close()
            await listening
            watching.cancel()

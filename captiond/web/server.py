"""A web process: it serves the application on a socket that all web processes share."""

import asyncio
import os

import structlog
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from captiond.metrics import CONNECTIONS, CONNECTIONS_LIMIT
from captiond.processes.channel import Channel
from captiond.processes.start import WebStart
from captiond.recording import Recorder
from captiond.settings.config import LimitSettings
from captiond.spool import open_spool
from captiond.store.engine import make_engine
from captiond.tracing import start_tracing
from captiond.usage import ClientUsage
from captiond.web.access.allowances import Allowances
from captiond.web.app import make_app
from captiond.web.async_tasks.event_log import EventLog
from captiond.web.async_tasks.queue_place import QueuePlaces
from captiond.web.async_tasks.status_cache import StatusCache
from captiond.web.async_tasks.task_queue import TaskQueue
from captiond.web.async_tasks.task_watch import TaskWatch, waiters_for
from captiond.web.connections.connection import Patience
from captiond.web.connections.descriptors import connections_for, raise_limit
from captiond.web.connections.http1 import Server
from captiond.web.connections.listener import Listener
from captiond.web.services import Services
from captiond.web.supervisor_client import SupervisorClient
from captiond.web.uploading.spool_room import SpoolRoom
from captiond.web.uploading.upload_memory import UploadMemory

HEAD_SECONDS = 5.0  # for the head of a request, and between two requests
log = structlog.get_logger()


def main(start: WebStart) -> None:
    """Run the process until the supervisor drains it."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(start))


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop if it is installed (the extra `fast`), else None: asyncio's."""
    try:
        import uvloop
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


async def run(start: WebStart) -> None:
    """Serve requests until the supervisor drains this process or has gone."""
    settings = start.settings
    most = connections_for(raise_limit(), settings.server.connections)
    supervisor = SupervisorClient(await Channel.open(start.connection))
    services = make_services(start, supervisor, connections=most)
    server = Server(make_app(services), hypercorn_config(), WorkerContext(None))
    log.debug("connections_allowed", most=most)
    async with asyncio.TaskGroup() as group:
        loops = [
            group.create_task(supervisor.listen()),
            group.create_task(supervisor.report(services.recorder)),
            group.create_task(services.watch.run(supervisor.closed)),
            group.create_task(services.upload_memory.keep_trimmed()),
        ]
        await supervisor.keys_received()
        listener = Listener(start.listener, server, patience(settings.limits), most=most)
        services.recorder.watch(CONNECTIONS, lambda: listener.opened)
        services.recorder.watch(CONNECTIONS_LIMIT, lambda: most)
        await listener.serve(supervisor.closed, drain_seconds=settings.server.shutdown_seconds)
        for loop in loops:
            loop.cancel()
    supervisor.send_measurements(services.recorder)
    await supervisor.flush()
    if services.traces is not None:
        await asyncio.to_thread(services.traces.close)
    await services.engine.dispose()


def make_services(start: WebStart, supervisor: SupervisorClient, *, connections: int) -> Services:
    """Return what the request handlers of a process with so many connections share."""
    engine = make_engine(start.settings.database_address)
    queue = TaskQueue(engine)
    places = QueuePlaces(engine, queue, lambda: supervisor.state.bulk_rate)
    watch = TaskWatch(engine, waiters_for(connections))
    supervisor.on_changes(watch.hint)
    spool = open_spool(start.settings)
    return Services(
        settings=start.settings,
        engine=engine,
        spool=spool,
        owner=start.name,
        supervisor=supervisor,
        queue=queue,
        statuses=StatusCache(engine, places),
        watch=watch,
        events=EventLog(engine),
        upload_memory=UploadMemory(),
        spool_room=SpoolRoom(start.settings.limits, lambda: supervisor.state, remote=spool.remote),
        allowances=Allowances(start.settings),
        usage=ClientUsage(start.usage, start.number, window=start.settings.clients.window_seconds),
        recorder=Recorder(),
        traces=start_tracing(start.name, os.environ),
    )


def patience(limits: LimitSettings) -> Patience:
    """Return how long connections wait for their clients."""
    return Patience(head=HEAD_SECONDS, body=limits.upload_seconds)


def hypercorn_config() -> Config:
    """Return the configuration of Hypercorn's protocol. Its server is not used."""
    config = Config()
    config.include_server_header = False
    config.accesslog = config.errorlog = None
    return config

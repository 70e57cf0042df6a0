"""A web process: Hypercorn serves the application on a socket that all web processes share."""

import asyncio
import logging
import socket

from hypercorn.asyncio import serve
from hypercorn.config import Config

from captiond.config import Settings
from captiond.metrics import Recorder
from captiond.processes.channel import Channel
from captiond.processes.start import WebStart
from captiond.spool import open_spool
from captiond.store.engine import make_engine
from captiond.usage import ClientUsage
from captiond.web.allowances import Allowances
from captiond.web.app import make_app
from captiond.web.http1 import disable_http2
from captiond.web.services import Services
from captiond.web.spool_room import SpoolRoom
from captiond.web.status_cache import StatusCache
from captiond.web.supervisor_client import SupervisorClient
from captiond.web.task_queue import TaskQueue
from captiond.web.upload_memory import UploadMemory


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
    services = make_services(start, SupervisorClient(await Channel.open(start.connection)))
    supervisor, app = services.supervisor, make_app(services)
    # guard: http1-only
    disable_http2()
    async with asyncio.TaskGroup() as group:
        loops = [
            group.create_task(supervisor.listen()),
            group.create_task(supervisor.report(services.recorder)),
            group.create_task(services.upload_memory.keep_trimmed()),
        ]
        await supervisor.keys_received()
        config = hypercorn_config(start.listener, start.settings)
        # Hypercorn types an application by its own protocol; ours is Starlette's.
        await serve(app, config, shutdown_trigger=supervisor.closed.wait)  # type: ignore[arg-type]
        for loop in loops:
            loop.cancel()
    supervisor.send_measurements(services.recorder)
    await services.engine.dispose()


def make_services(start: WebStart, supervisor: SupervisorClient) -> Services:
    """Return what the request handlers share."""
    engine = make_engine(start.settings.database)
    return Services(
        settings=start.settings,
        engine=engine,
        spool=open_spool(start.settings),
        owner=start.name,
        supervisor=supervisor,
        queue=TaskQueue(engine),
        statuses=StatusCache(engine),
        upload_memory=UploadMemory(),
        spool_room=SpoolRoom(start.settings.limits, lambda: supervisor.state),
        allowances=Allowances(start.settings),
        usage=ClientUsage(start.usage, start.number, window=start.settings.clients.window_seconds),
        recorder=Recorder(),
    )


def hypercorn_config(listener: socket.socket, settings: Settings) -> Config:
    """Return Hypercorn's configuration for the shared socket."""
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.backlog = 1024
    config.include_server_header = False
    config.graceful_timeout = settings.server.shutdown_seconds
    # Hypercorn holds so many received chunks of a request in memory before the handler reads them.
    config.max_app_queue_size = 1
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    return config

"""A web process: Hypercorn and the application, on a listening socket that it shares."""

import asyncio
import logging
import socket

from hypercorn.asyncio import serve
from hypercorn.config import Config

from captiond.config import Settings
from captiond.processes.channel import Channel
from captiond.processes.start import WebStart
from captiond.spool import open_spool
from captiond.store.engine import make_engine
from captiond.web.acceptance import Acceptance
from captiond.web.app import make_app
from captiond.web.desk import Desk
from captiond.web.heap import Heap
from captiond.web.http1 import allow_http1_alone
from captiond.web.services import Services


def main(start: WebStart) -> None:
    """The process's whole life."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(start))


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it is installed (the extra `fast`), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


async def run(start: WebStart) -> None:
    desk = Desk(await Channel.open(start.connection))
    engine = make_engine(start.settings.database)
    heap, acceptance = Heap(), Acceptance(engine)
    app = make_app(
        Services(
            start.settings, engine, acceptance, desk, heap, open_spool(start.settings), start.name
        )
    )
    config = hypercorn_config(start.listener, start.settings)
    allow_http1_alone()
    async with asyncio.TaskGroup() as group:
        loops = [group.create_task(desk.listen()), group.create_task(heap.keep_trimmed())]
        # Hypercorn types an application by its own protocol; ours is Starlette's.
        await serve(app, config, shutdown_trigger=desk.closed.wait)  # type: ignore[arg-type]
        for loop in loops:
            loop.cancel()
    await engine.dispose()


def hypercorn_config(listener: socket.socket, settings: Settings) -> Config:
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.backlog = 1024
    config.include_server_header = False
    config.graceful_timeout = settings.server.shutdown_seconds
    # What a request has sent and nobody has read yet is held in memory, per connection.
    config.max_app_queue_size = 1
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    return config

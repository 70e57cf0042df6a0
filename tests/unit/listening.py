"""The application behind the real listener, on a port of the test's own event loop."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hypercorn.asyncio.worker_context import WorkerContext
from starlette.types import ASGIApp

from captiond.web.connections.connection import Patience
from captiond.web.connections.http1 import Server
from captiond.web.connections.listener import Listener
from captiond.web.server import hypercorn_config
from tests.patience import PATIENCE

LONG = Patience(head=PATIENCE, body=PATIENCE)


@dataclass
class Client:
    """One connection to the listener, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def end(self) -> None:
        """Close the sending direction only."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Close both directions at once, without regard for what is under way."""
        self.writer.transport.abort()

    async def read_response(self) -> tuple[int, bytes, bytes]:
        """Return the status, the head and the body of the next response."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await self.reader.readexactly(int(length[1])) if length else b""
        return int(head.split()[1]), head, body

    async def rest(self) -> bytes:
        """Return everything until the server closes the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


@dataclass
class Port:
    """A listening application."""

    number: int
    stop: asyncio.Event
    listener: Listener
    serving: "asyncio.Task[None]"

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.number))

    async def exchange(self, sent: bytes) -> bytes:
        """Send bytes, end the input, and return all that comes back."""
        client = await self.connect()
        client.send(sent)
        client.end()
        return await client.rest()

    async def settle(self) -> None:
        """Wait until no connection is left, and none of its handlers. Fail if one never ends."""
        async with asyncio.timeout(PATIENCE):
            while self.listener.opened:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(
    app: ASGIApp, patience: Patience = LONG, *, most: int = 100
) -> AsyncIterator[Port]:
    """Serve `app` while the block runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as accepting:
        stop = asyncio.Event()
        server = Server(app, hypercorn_config(), WorkerContext(None))
        listener = Listener(accepting, server, patience, most=most)
        serving = asyncio.create_task(listener.serve(stop, drain_seconds=PATIENCE))
        async with asyncio.timeout(2 * PATIENCE):
            yield Port(accepting.getsockname()[1], stop, listener, serving)
            stop.set()
            await serving

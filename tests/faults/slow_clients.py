"""Slow clients, all in one process: python -m tests.faults.slow_clients PORT NUMBER

They send headers, bodies or chunks two pieces a second, or read no answer. They share one event
loop, so that they take little of a processor that the service needs as well. The program prints
`connected` once all have begun, and `closed` once the service has disconnected all of them.
"""

import asyncio
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from tests.conftest import png
from tests.faults.raw_requests import part, request

PAUSE_SECONDS = 0.5
UPLOAD = request(part("a.png", png(1)) + b"--edge--\r\n")
HEAD_SIZE = UPLOAD.index(b"\r\n\r\n") + 4
CHUNKED = (
    b"POST /async-batch-caption HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
)
PAGES = b"GET /static/page.js HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
EACH_UNREAD = 25  # one of so many clients does not read


@dataclass(frozen=True)
class Manner:
    """What a slow client sends at once, what it then sends piece by piece, and whether it reads."""

    first: bytes
    pieces: tuple[bytes, ...]
    reads: bool = True


def single_bytes(content: bytes) -> tuple[bytes, ...]:
    return tuple(content[at : at + 1] for at in range(len(content)))


MANNERS = (
    Manner(b"", single_bytes(UPLOAD[:HEAD_SIZE])),
    Manner(UPLOAD[:HEAD_SIZE], single_bytes(UPLOAD[HEAD_SIZE:])),
    Manner(CHUNKED, (b"1\r\na\r\n",) * 1000),
)
UNREAD = Manner(PAGES, (b"G",) * 1000, reads=False)  # the answers are larger than all buffers


def manner_of(number: int) -> Manner:
    """Return the manner of the client with this number."""
    return UNREAD if number % EACH_UNREAD == 0 else MANNERS[number % len(MANNERS)]


class SlowClient(asyncio.Protocol):
    """One connection. `closed` is set once the service has closed it."""

    def __init__(self, manner: Manner) -> None:
        self.closed = asyncio.Event()
        self._manner = manner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._manner.reads:
            transport.pause_reading()
        transport.write(self._manner.first)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    async def crawl(self) -> None:
        """Send the pieces until the service has closed the connection."""
        for piece in self._manner.pieces:
            await asyncio.sleep(PAUSE_SECONDS)
            if self.closed.is_set():
                return
            self._transport.write(piece)
        await self.closed.wait()


async def connected(port: int, manner: Manner) -> SlowClient:
    connection = socket.socket()
    if not manner.reads:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    _, client = await loop.create_connection(lambda: SlowClient(manner), sock=connection)
    return client


async def run(port: int, manners: Iterable[Manner]) -> None:
    async with asyncio.TaskGroup() as group:
        for manner in manners:
            client = await connected(port, manner)
            group.create_task(client.crawl())
        sys.stdout.write("connected\n")
        sys.stdout.flush()
    sys.stdout.write("closed\n")


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), map(manner_of, range(int(sys.argv[2])))))

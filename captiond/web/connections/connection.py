"""One TCP connection: it reads for the protocol, writes for it, and ends in time.

A connection has no timers. The listener asks it regularly whether it is overdue.
"""

import asyncio
import select
from dataclasses import dataclass

from hypercorn.events import Closed, Event, RawData, Updated
from starlette.requests import ClientDisconnect

from captiond.web.connections.handlers import Handlers
from captiond.web.connections.http1 import Http1Protocol, Server
from captiond.web.connections.inbox import Evicted

READ_BYTES = 64 * 1024
PROBE_SECONDS = 2.0  # from the end of a client's input to the first look whether it is gone
REPLY_SECONDS = 0.25  # for a client that is gone to reject a probe


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a connection waits for its client.

    `head` is for the head of a request, on a new connection or between two requests. `body` is for
    the rest of a body that was answered early, and for taking a part of an answer. `linger` is for
    input after the last answer.
    """

    head: float
    body: float
    linger: float = 5.0


class Connection:
    """A connection of a client. `run` is its whole life.

    After its last answer it lingers: it closes its sending direction, and discards what still
    arrives. A socket that is closed with unread bytes is reset, and the client may then lose the
    answer (RFC 9112, 9.6).
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: Server,
        patience: Patience,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._server = server
        self._patience = patience
        self._peer: tuple[str, int] | None = writer.get_extra_info("peername")
        self._protocol: Http1Protocol | None = None
        self._handlers: Handlers | None = None
        self._finished = asyncio.Event()  # no answer follows
        self._now = asyncio.get_running_loop().time
        self._since = self.last_input = self._now()

    @property
    def address(self) -> str:
        """The client's IP address."""
        return self._peer[0] if self._peer else ""

    # ------------------------------------------------------------ life

    async def run(self) -> None:
        """Serve the client until one side ends the connection."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._handlers = Handlers(tasks)
                addresses = self._peer, self._writer.get_extra_info("sockname")
                self._protocol = Http1Protocol(
                    self._server, self._handlers, addresses, self._take_event
                )
                await self._serve(self._protocol)
        finally:
            await self._close()

    async def _serve(self, protocol: Http1Protocol) -> None:
        try:
            await self._read(protocol)
            # guard: end-of-input-is-no-disconnect
            await self._wait_for_answers(protocol)
        except (OSError, ClientDisconnect):
            self.abort()
        await protocol.handle(Closed())

    async def _read(self, protocol: Http1Protocol) -> None:
        """Read until the client ends its input."""
        while data := await self._reader.read(READ_BYTES):
            self.last_input = self._now()
            if not self._finished.is_set():
                await protocol.handle(RawData(data))
                await protocol.wait_for_room()
        if not self._finished.is_set():
            await protocol.end_input()

    async def _wait_for_answers(self, protocol: Http1Protocol) -> None:
        """Wait for the answers to a client that has ended its input, while it is there.

        A client that is gone looks the same as one that only sends nothing more, until it receives
        something: its machine then sends a reset. Therefore an interim response 100 precedes an
        answer that takes long, and an event stream has comments. Every client of HTTP/1.1 skips the
        first (RFC 9110, 15.2), and every client of event streams the second (HTML, 9.2.6).
        """
        pause = PROBE_SECONDS
        while protocol.answers_follow and not await self._finishes_within(pause):
            # guard: silent-client-is-probed
            await protocol.probe()
            if await self._finishes_within(REPLY_SECONDS) or self._is_reset():
                return
            pause *= 2

    async def _finishes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._finished.wait()
        except TimeoutError:
            return False

    def _is_reset(self) -> bool:
        """Return whether the client has rejected what was sent to it."""
        socket = self._writer.get_extra_info("socket")
        if self._writer.is_closing() or socket is None:
            return True
        poll = select.poll()
        poll.register(socket.fileno(), 0)  # errors are reported in any case
        return bool(poll.poll(0))

    async def _close(self) -> None:
        """Close the connection once the client has taken what was written, or does not take it."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._patience.body):
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            self.abort()

    # ------------------------------------------------------------ the protocol

    async def _take_event(self, event: Event) -> None:
        match event:
            case RawData(data=data):
                await self._write(data)
            case Closed():
                self._finish()
            case Updated():
                self._since = self._now()

    async def _write(self, data: bytes) -> None:
        """Write a part of an answer.

        Raises:
            ClientDisconnect: the client takes nothing. The connection is closed.
        """
        if self._writer.is_closing():
            return
        self._writer.write(data)
        try:
            async with asyncio.timeout(self._patience.body):
                await self._writer.drain()
        except TimeoutError:
            self.abort()
            raise ClientDisconnect from None
        except OSError:
            self.abort()

    def _finish(self) -> None:
        """Send nothing more. Linger until the client ends its input."""
        if not self._finished.is_set():
            self._finished.set()
            self._since = self._now()
            if not self._writer.is_closing() and not self._reader.at_eof():
                try:
                    self._writer.write_eof()
                except OSError:  # the client has reset the connection
                    self.abort()

    # ------------------------------------------------------------ the listener

    @property
    def waits_for_client(self) -> bool:
        """Whether nothing would be lost but what the client has not sent completely."""
        return self._protocol is None or self._finished.is_set() or self._protocol.receiving

    def is_overdue(self, now: float, *, draining: bool) -> bool:
        """Return whether the client has had its time. While draining, it has none to be idle."""
        if self._protocol is None:
            return False
        waited, patience = now - self._since, self._patience
        if self._finished.is_set():
            quiet = now - max(self.last_input, self._since)
            return waited > patience.body or quiet > patience.linger / (5 if draining else 1)
        if self._protocol.idle:
            return draining or waited > patience.head
        return self._protocol.answered_early and (draining or waited > patience.body)

    def close_overdue(self, now: float) -> None:
        """Close the connection of a client that has had its time.

        What the kernel has taken of an answer is still sent, unless it has taken too long.
        """
        if now - self._since > self._patience.body:
            self.abort()
        else:
            self._finished.set()
            self._writer.close()

    def evict(self) -> None:
        """Close the connection in favour of another one. Its handler gets `Evicted`."""
        if self._handlers is not None:
            self._handlers.inbox.fail(Evicted())
        self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._finished.set()
        self._writer.transport.abort()

"""HTTP/1.1 on one connection: Hypercorn's protocol, with what it lacks against hostile clients.

Hypercorn 0.18 turns h11's events into ASGI messages. It differs here in the following points:

- The protocol never changes. Hypercorn switches to HTTP/2 on every cleartext connection that asks
  for it, which evades the rules of a proxy in front, and it accepts WebSocket.
- No event waits for a handler: each request has a `RequestInbox`.
- A request that cannot be served reaches the application all the same, with the error as
  `REFUSED` in its state. So each answer has captiond's body, its request id and its log entry.
- The rest of a body that was answered early is read and discarded. Hypercorn closes the connection,
  and the client may then lose the answer.
- A client that closes its sending direction after a complete request gets its answer.
- A client that asks before it sends its body is asked for it once a handler reads the body.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup, WorkerContext
from starlette.types import ASGIApp

from captiond.errors import MalformedBody, RequestError
from captiond.web.connections.framing import Headers, check_request, origin_form, unreadable
from captiond.web.connections.handlers import Handlers
from captiond.web.connections.pipelining import Pace

CONNECTION_ID = "connection_id"  # its key in the state of each request's scope
REFUSED = "refused"  # the key of the error that answers a request which cannot be served
CHUNKS, CHUNK_BYTES = 250, 32  # chunks that each body may have, and bytes that allow one more
EVENTS = 100  # of one connection, after which the others have their turn
EVENT_STREAM = (b"content-type", b"text/event-stream")
COMMENT = b":\n\n"  # in an event stream, where each message of the application has whole events
PIPELINED_BYTES = 64 * 1024  # of further requests, which are read before the answer


@dataclass(frozen=True)
class Server:
    """What all connections of a process share."""

    app: ASGIApp
    config: Config
    context: WorkerContext
    pace: Pace = field(default_factory=Pace)


class Http1Protocol(H11Protocol):
    """The requests of one connection. `send` takes bytes, and `Closed` when no answer follows."""

    connection: h11.Connection

    def __init__(
        self,
        server: Server,
        handlers: Handlers,
        addresses: tuple[tuple[str, int] | None, tuple[str, int] | None],
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        client, host = addresses
        super().__init__(
            cast(AppWrapper, server.app),  # only `handlers` calls it, as what it is
            server.config,
            server.context,
            cast(TaskGroup, handlers),  # it has what a stream calls
            ConnectionState({CONNECTION_ID: secrets.token_hex(8)}),
            False,
            client,
            host,
            send,
        )
        self._handlers = handlers
        handlers.ask = self._continue_if_asked
        self._pace = server.pace
        self._pausing = False  # a pipelined request waits for its turn
        self._parsing = asyncio.Lock()
        self._chunks = self._body_bytes = 0
        self._unreadable = self._streams_events = False
        self._at_start = True  # no byte of the next request line has arrived

    # ------------------------------------------------------------ state

    @property
    def receiving(self) -> bool:
        """Whether the client has more to send before this process can do something."""
        return self.connection.their_state in {h11.IDLE, h11.SEND_BODY}

    @property
    def idle(self) -> bool:
        """Whether there is no request, or only a part of its head."""
        return self.connection.their_state is h11.IDLE

    @property
    def answered_early(self) -> bool:
        """Whether only the rest of a body is awaited, to discard it."""
        return self.connection.their_state is h11.SEND_BODY and self.stream is None

    @property
    def answering(self) -> bool:
        """Whether a handler works on a request."""
        return self.stream is not None

    @property
    def answers_follow(self) -> bool:
        """Whether a handler works on a request, or a pipelined request waits for its turn.

        Between two pipelined requests there is no handler for a moment.
        """
        waits = self._pausing or self._parsing.locked() or self.connection.trailing_data[0] != b""
        return self.answering or (waits and not self._unreadable)

    @property
    def busy(self) -> bool:
        """Whether a handler works on a request, or a complete one waits for its turn."""
        return self.answering or self._pausing

    # ------------------------------------------------------------ input

    async def handle(self, event: Event) -> None:
        """Take what has arrived: bytes, or `Closed` if the client is gone."""
        if not isinstance(event, RawData):
            self._unreadable = True  # requests that were pipelined have no client any more
            await super().handle(event)
        elif not self._unreadable and (data := self._without_empty_lines(event.data)):
            self.connection.receive_data(data)
            if not self._pausing:
                await self._handle_events()

    async def end_input(self) -> None:
        """Take the end of the client's input. A complete request still gets its answer."""
        if self._unreadable:
            return  # the answer says so
        if self.answering and self.receiving:
            await self.handle(Closed())
        else:
            self.connection.receive_data(b"")
            if not self._pausing:
                await self._handle_events()

    async def wait_for_room(self) -> None:
        """Wait until more of the client's input can be handled."""
        await self._handlers.inbox.wait_for_room()
        while len(self.connection.trailing_data[0]) > PIPELINED_BYTES and self.busy:
            await self.can_read.clear()
            await self.can_read.wait()

    def _without_empty_lines(self, data: bytes) -> bytes:
        """Drop empty lines before a request line, as RFC 9112 (2.2) advises."""
        if self._at_start:
            data = data.lstrip(b"\r\n")
            self._at_start = not data
        return data

    async def _handle_events(self) -> None:
        async with self._parsing:
            number = 0
            while not self._unreadable and await self._handle_next():
                number += 1
                if number % EVENTS == 0:
                    await asyncio.sleep(0)

    async def _handle_next(self) -> bool:
        """Handle one event of h11. Return whether there may be another one."""
        try:
            event = self.connection.next_event()
        except h11.RemoteProtocolError as error:
            await self._refuse_input(error)
            return False
        match event:
            case h11.Request():
                await self.send(Updated(idle=False))
                await self._create_stream(event)
            case h11.Data():
                await self._take_body(event)
            case h11.EndOfMessage():
                await self._end_request()
            case h11.ConnectionClosed() if self.stream is None:
                await self.send(Closed())
                return False
            case _:
                return False
        return True

    async def _continue_if_asked(self) -> None:
        """Ask for the body, which the handler waits for, if the client expects to be asked.

        A request that is refused by its head is answered without it (RFC 9110, 10.1.1).
        """
        if self.connection.they_are_waiting_for_100_continue:
            await self.send_continue()

    async def probe(self) -> None:
        """Send something without a meaning, which the machine of a client that is gone rejects.

        Before an answer that is an interim response 100. Within an event stream it is a comment.
        """
        if self._streams_events and self.connection.our_state is h11.SEND_BODY:
            await self._send_h11_event(h11.Data(data=COMMENT))
        else:
            await self.send_continue()

    async def send_continue(self) -> None:
        """Send the interim response 100 if the answer has not begun."""
        if self.connection.our_state is h11.SEND_RESPONSE:
            headers = self.config.response_headers("h11")
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=headers))

    # ------------------------------------------------------------ requests

    async def _create_stream(self, request: h11.Request) -> None:
        """Start the handler of a request. One that is refused is answered by the application."""
        try:
            # guard: refused-requests
            check_request(request)
            path, headers = origin_form(request)
        except RequestError as error:
            await self._start(request.method, request.target, list(request.headers), error)
        else:
            await self._start(request.method, path, headers, None)

    async def _start(
        self, method: bytes, path: bytes, headers: Headers, refused: RequestError | None
    ) -> None:
        self._chunks = self._body_bytes = 0
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        state = self.connection_state
        if refused is not None:
            state = ConnectionState({**state, REFUSED: refused})
            self._unreadable = True
        version = (self.connection.their_http_version or b"1.1").decode()
        await self.stream.handle(
            events.Request(STREAM_ID, headers, version, method.decode("ascii"), path, state)
        )
        self.keep_alive_requests += 1
        if refused is not None:
            await self.stream.handle(events.EndBody(STREAM_ID))

    async def _take_body(self, data: h11.Data) -> None:
        self._chunks += data.chunk_start
        self._body_bytes += len(data.data)
        # guard: bounded-chunks
        if self._chunks > CHUNKS + self._body_bytes // CHUNK_BYTES:
            await self._fail("its chunks are too small")
        elif self.stream is not None:
            await self.stream.handle(events.Body(STREAM_ID, data.data))

    async def _end_request(self) -> None:
        if self.stream is not None:
            await self.stream.handle(events.EndBody(STREAM_ID))
        else:  # the answer was early
            await self._maybe_recycle()

    async def _refuse_input(self, error: h11.RemoteProtocolError) -> None:
        """Answer input that is not HTTP/1.1, if an answer can still be sent."""
        if self.answering:
            await self._fail("its framing is not that of HTTP/1.1")
        elif self.connection.our_state is h11.IDLE:
            await self._start(b"", b"", [], unreadable(error))
        else:
            await self.send(Closed())

    async def _fail(self, reason: str) -> None:
        """Read no more of a body: its handler gets MalformedBody."""
        self._unreadable = True
        if self.answering:
            self._handlers.inbox.fail(MalformedBody(f"the body of the request: {reason}"))
        else:
            await self.send(Closed())

    # ------------------------------------------------------------ answers

    async def stream_send(self, event: events.Event) -> None:
        """Send a part of an answer. The last answer of a connection says that it closes.

        It is the last one as well if the client was not asked for its body: nobody can know whether
        the body or another request follows.
        """
        unasked = self.connection.they_are_waiting_for_100_continue
        if isinstance(event, events.Response):
            method = self.stream.scope["method"] if isinstance(self.stream, HTTPStream) else ""
            self._streams_events = method != "HEAD" and EVENT_STREAM in event.headers
            # guard: unasked-body-closes
            if self._is_last() or unasked:
                event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    def _is_last(self) -> bool:
        return self._unreadable or self.context.terminated.is_set()

    async def _maybe_recycle(self) -> None:
        """Prepare for the next request after an answer, or close the connection."""
        done = self.connection.our_state is h11.DONE
        # guard: early-answer-keeps-connection
        if done and self.connection.their_state is h11.SEND_BODY and not self._is_last():
            await self._close_stream()
            await self.send(Updated(idle=False))
            return
        await super()._maybe_recycle()
        if self.idle:
            self._restart()
            if self.connection.trailing_data != (b"", False):
                self._pausing = True
                self.task_group.spawn(self._handle_pipelined)

    async def _handle_pipelined(self) -> None:
        """Handle what the client has sent before the answer to its last request."""
        try:
            await self._pace.wait()
        finally:
            self._pausing = False
        await self._handle_events()
        await self.can_read.set()

    def _restart(self) -> None:
        """Drop empty lines before a pipelined request. h11 takes them for a request line."""
        data, ended = self.connection.trailing_data
        self._at_start = True
        if data[:1] in {b"\r", b"\n"}:
            self.connection = h11.Connection(h11.SERVER, self.config.h11_max_incomplete_size)
            if data := self._without_empty_lines(data):
                self.connection.receive_data(data)
            if ended:
                self.connection.receive_data(b"")
        else:
            self._at_start = not data

"""Connections from their start to their end, with small applications behind the real listener."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from unittest.mock import ANY

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from captiond.errors import MalformedBody
from captiond.web.connections import connection as connection_module
from captiond.web.connections.connection import PROBE_SECONDS, Patience
from captiond.web.connections.http1 import CHUNK_BYTES, CHUNKS, REFUSED, Http1Protocol
from captiond.web.connections.inbox import Evicted
from captiond.web.server import hypercorn_config
from tests.patience import PATIENCE
from tests.unit.listening import Client, Port, listening

pytestmark = pytest.mark.anyio
GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
PIECE = {"type": "http.response.body", "more_body": True}
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTING = b"POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
Handler = Callable[[Request], Awaitable[Response]]


def application(handler: Handler) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)

    return app


@application
async def echo(request: Request) -> Response:
    """Answer with what was read, or with the name of the error."""
    if (refused := request.scope["state"].get(REFUSED)) is not None:
        return Response(refused.code, refused.status)
    body = await request.body()
    return Response(json.dumps([request.method, request.url.path, len(body)]))


@application
async def early(request: Request) -> Response:
    """Answer without reading the body."""
    return Response(request.url.path)


def post(length: int, sent: int | None = None) -> bytes:
    head = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
    return head + bytes(length if sent is None else sent)


class Held:
    """A handler that waits until it is released, or until its client is gone."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.app = application(self.handle)

    async def handle(self, request: Request) -> Response:
        await request.body()
        self.begun.set()
        released = asyncio.create_task(self.released.wait())
        gone = asyncio.ensure_future(request.receive())
        await asyncio.wait({released, gone}, return_when=asyncio.FIRST_COMPLETED)
        self.ended.put_nowait("released" if released.done() else "gone")
        released.cancel()
        gone.cancel()
        return Response("held")

    async def end(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return await self.ended.get()


# ---------------------------------------------------------------- requests


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with listening(echo) as port:
        sent = b"\r\n".join(GET % number for number in range(50))
        answers = await port.exchange(b"\r\n\r\n" + sent)
        paths = [f'["GET", "/{number}", 0]'.encode() for number in range(50)]
        assert [part.partition(b"HTTP/")[0] for part in answers.split(b"\r\n\r\n")[1:]] == paths
        await port.settle()


async def test_more_pipelined_requests_than_memory_are_answered() -> None:
    async with listening(echo) as port:
        answers = await port.exchange(b"".join(GET % number for number in range(5000)))
        assert answers.count(b"HTTP/1.1 200") == hypercorn_config().keep_alive_max_requests
        assert b"connection: close" in answers.rpartition(b"HTTP/1.1")[2]
        await port.settle()


async def test_a_probe_between_two_pipelined_requests_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client has ended its input. On a busy machine, its answers take longer than a probe."""
    handle_events = Http1Protocol._handle_events

    async def handle_later(self: Http1Protocol) -> None:
        for _ in range(10):  # there is no handler meanwhile
            await asyncio.sleep(0)
        await handle_events(self)

    monkeypatch.setattr(Http1Protocol, "_handle_events", handle_later)
    monkeypatch.setattr(connection_module, "PROBE_SECONDS", 0)
    monkeypatch.setattr(connection_module, "REPLY_SECONDS", 0)
    async with listening(echo) as port:
        answers = await port.exchange(b"".join(GET % number for number in range(5)))
        assert answers.count(b"HTTP/1.1 200") == 5
        await port.settle()


async def test_a_body_arrives_whole_in_whatever_pieces() -> None:
    async with listening(echo) as port:
        chunks = b"".join(b"%x\r\n%s\r\n" % (size, bytes(size)) for size in range(1, 600))
        assert b'["POST", "/", 179700]' in await port.exchange(CHUNKED + chunks + b"0\r\n\r\n")
        assert b'["POST", "/upload", 3000000]' in await port.exchange(post(3_000_000))
        few = b"1\r\na\r\n" * CHUNKS
        assert b"/" in (await port.exchange(CHUNKED + few + b"0\r\n\r\n")).splitlines()[-1]
        await port.settle()


async def test_chunks_that_are_too_small_end_the_request() -> None:
    errors: list[MalformedBody] = []

    @application
    async def reading(request: Request) -> Response:
        try:
            await request.body()
        except MalformedBody as error:
            errors.append(error)
        return Response(status_code=400)

    async with listening(reading) as port:
        sent = CHUNKED + b"1\r\na\r\n" * (CHUNKS + CHUNKS // (CHUNK_BYTES - 1) + 10)
        answer = await port.exchange(sent)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"connection: close" in answer
        assert len(errors) == 1
        await port.settle()


async def test_an_early_answer_does_not_end_the_connection() -> None:
    async with listening(early) as port:
        client = await port.connect()
        client.send(post(5_000_000, sent=1000))
        assert (await client.read_response())[2] == b"/upload"
        client.send(bytes(5_000_000 - 1000) + GET % 7)
        status, _, body = await client.read_response()
        assert (status, body) == (200, b"/7")


async def test_a_client_is_asked_for_a_body_that_is_read() -> None:
    async with listening(echo) as port:
        client = await port.connect()
        client.send(EXPECTING)
        assert await client.read_response() == (100, ANY, b"")
        client.send(b"abc" + GET % 7)
        assert (await client.read_response())[2] == b'["POST", "/upload", 3]'
        assert (await client.read_response())[2] == b'["GET", "/7", 0]'


async def test_a_client_is_answered_without_its_body_if_nobody_reads_it() -> None:
    """Whether it then sends the body is not known, so nothing more is read as a request."""
    async with listening(early) as port:
        client = await port.connect()
        client.send(EXPECTING)
        status, head, body = await client.read_response()
        assert (status, body) == (200, b"/upload")
        assert b"connection: close" in head.lower()
        client.send(GET % 7)
        client.end()
        assert await client.rest() == b""
        await port.settle()


async def test_a_client_that_never_ends_its_body_is_closed_in_time() -> None:
    async with listening(early, Patience(head=PATIENCE, body=0.1)) as port:
        client = await port.connect()
        client.send(post(1000, sent=10))
        assert (await client.read_response())[2] == b"/upload"
        assert await client.rest() == b""
        await port.settle()


async def test_answers_do_not_wait_for_the_clients_machine() -> None:
    """Without TCP_NODELAY, a body that follows its head waits 40 ms for the ACK of the head.

    The client's kernel acknowledges some answers at once, unless it is told not to. On a busy
    machine, answers are late for other reasons as well, but not all of them.
    """
    waits = []
    async with listening(echo) as port:
        client = await port.connect()
        kernel = client.writer.get_extra_info("socket")
        for _ in range(25):
            kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            begun = time.monotonic()
            client.send(GET % 1)
            await client.read_response()
            waits.append(time.monotonic() - begun)
    assert min(waits) < 0.04


# ---------------------------------------------------------------- ends


async def test_a_client_that_only_ends_its_input_gets_its_answer() -> None:
    held = Held()
    async with listening(held.app) as port:
        client = await port.connect()
        client.send(post(10))
        client.end()
        await held.begun.wait()
        await asyncio.sleep(2 * PROBE_SECONDS)  # the probe must not end it
        held.released.set()
        assert await held.end() == "released"
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 100")
        assert answer.endswith(b"held")
        await port.settle()


@pytest.mark.parametrize("leave", [Client.reset, lambda client: client.writer.close()])
async def test_a_client_that_is_gone_is_noticed(leave: Callable[[Client], None]) -> None:
    held = Held()
    async with listening(held.app) as port:
        client = await port.connect()
        client.send(post(10))
        await held.begun.wait()
        leave(client)
        assert await held.end() == "gone"
        await port.settle()


async def test_pipelined_requests_of_a_client_that_is_gone_are_not_handled() -> None:
    held, handled = Held(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        handled.append(scope["path"])
        await held.app(scope, receive, send)

    async with listening(app) as port:
        client = await port.connect()
        client.send(b"".join(GET % number for number in range(100)))
        await held.begun.wait()
        client.reset()
        assert await held.end() == "gone"
        await port.settle()
    assert handled == ["/0"]


async def test_a_body_that_is_cut_off_is_a_disconnect() -> None:
    gone = asyncio.Event()

    @application
    async def reading(request: Request) -> Response:
        try:
            await request.body()
        except ClientDisconnect:
            gone.set()
        return Response()

    async with listening(reading) as port:
        await port.exchange(post(1000, sent=10))
        await gone.wait()
        await port.settle()


async def test_a_client_that_takes_nothing_of_its_answer_is_gone() -> None:
    gone = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send(
                    {"type": "http.response.body", "body": bytes(1 << 20), "more_body": True}
                )
        except ClientDisconnect:
            gone.set()

    async with listening(endless, Patience(head=PATIENCE, body=0.2)) as port:
        client = await port.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it can read, too
        client.send(GET % 1)
        async with asyncio.timeout(PATIENCE):
            await gone.wait()
        client.reset()
        await port.settle()


async def test_a_failed_application_does_not_end_the_server() -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("broken")

    async with listening(broken) as port:
        with capture_logs() as logs:
            assert (await port.exchange(GET % 1)).startswith(b"HTTP/1.1 500")
            assert (await port.exchange(GET % 1)).startswith(b"HTTP/1.1 500")
        assert [entry["event"] for entry in logs] == ["handler_failed"] * 2


# ---------------------------------------------------------------- deadlines and limits


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET % 1, b"\r\n" * 10])
async def test_a_client_has_so_long_for_a_head(sent: bytes) -> None:
    async with listening(echo, Patience(head=0.1, body=PATIENCE)) as port:
        client = await port.connect()
        client.send(sent)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200") == (sent == GET % 1)
        await port.settle()


async def test_when_all_connections_are_in_use_the_quietest_makes_room() -> None:
    most = 10
    evicted: list[type[Exception]] = []

    @application
    async def reading(request: Request) -> Response:
        try:
            return Response(str(len(await request.body())))
        except ClientDisconnect as error:
            evicted.append(type(error))
            raise

    async with listening(reading, most=most) as port:
        with capture_logs() as logs:
            stuck = [await started(port) for _ in range(4 * most)]
            for _ in range(3):
                assert (await port.exchange(post(5))).endswith(b"5")
        assert set(evicted) == {Evicted}
        assert len(evicted) > 3 * most
        reports = [entry for entry in logs if entry["event"] == "connections_evicted"]
        assert len(reports) == 1
        for client in stuck:
            client.reset()
        await port.settle()


async def started(port: Port) -> Client:
    client = await port.connect()
    client.send(post(1000, sent=10))
    return client


async def test_a_request_in_progress_is_not_evicted() -> None:
    held = Held()
    async with listening(held.app, most=1) as port:
        first = await port.connect()
        first.send(post(10))
        await held.begun.wait()
        second = await port.connect()
        second.send(post(10))
        held.released.set()
        assert (await first.read_response())[2] == b"held"
        first.reset()
        assert (await second.read_response())[2] == b"held"


async def test_a_stop_waits_for_requests_and_for_nothing_else() -> None:
    held = Held()
    async with listening(held.app) as port:
        idle, half, busy = [await port.connect() for _ in range(3)]
        half.send(b"GET / HT")
        busy.send(post(10))
        await held.begun.wait()
        port.stop.set()
        assert await idle.rest() == b""
        assert await half.rest() == b""
        assert not port.serving.done()
        held.released.set()
        status, head, body = await busy.read_response()
        assert (status, body) == (200, b"held")
        assert b"connection: close" in head
        async with asyncio.timeout(PATIENCE):
            await port.serving

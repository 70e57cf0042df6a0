"""Clients of an event stream that have ended their input: they still read, or they are gone."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from captiond.web.connections import connection as connection_module
from captiond.web.connections.http1 import Http1Protocol
from captiond.web.disconnects import disconnected
from tests.patience import PATIENCE
from tests.unit.listening import listening
from tests.unit.test_connections import application

pytestmark = pytest.mark.anyio
STREAM = b"%b / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FIRST, LAST, COMMENT = b"data: 1\n\n", b"data: 2\n\n", b":\n\n"


class Streaming:
    """An event stream with two events. The second one comes when it is released."""

    def __init__(self) -> None:
        self.released, self.gone = asyncio.Event(), asyncio.Event()
        self.app = application(self.handle)

    async def handle(self, request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield FIRST
            watching = asyncio.create_task(self.watch(request))
            await self.released.wait()
            watching.cancel()
            yield LAST

        return StreamingResponse(events(), headers={"Content-Type": "text/event-stream"})

    async def watch(self, request: Request) -> None:
        await disconnected(request)
        self.gone.set()


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> Streaming:
    monkeypatch.setattr(connection_module, "PROBE_SECONDS", 0.01)
    return Streaming()


async def test_a_client_that_reads_on_gets_comments_between_the_events(
    streaming: Streaming,
) -> None:
    async with listening(streaming.app) as port:
        client = await port.connect()
        client.send(STREAM % b"GET")
        client.end()
        async with asyncio.timeout(PATIENCE):
            before = await client.reader.readuntil(COMMENT)
        assert before.index(FIRST) < before.index(COMMENT)
        streaming.released.set()
        rest = await client.rest()
        assert rest.endswith(b"0\r\n\r\n")
        assert rest.count(LAST) == 1
        assert not streaming.gone.is_set()
        await port.settle()


async def test_a_client_that_is_gone_is_noticed_before_the_next_event(streaming: Streaming) -> None:
    async with listening(streaming.app) as port:
        client = await port.connect()
        client.send(STREAM % b"GET")
        async with asyncio.timeout(PATIENCE):
            await client.reader.readuntil(FIRST)
        client.writer.close()
        async with asyncio.timeout(PATIENCE):
            await streaming.gone.wait()
        streaming.released.set()
        await port.settle()


async def test_an_answer_without_a_body_gets_no_comment(
    streaming: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, probed = Http1Protocol.probe, asyncio.Event()

    async def probing(self: Http1Protocol) -> None:
        await probe(self)
        probed.set()

    monkeypatch.setattr(Http1Protocol, "probe", probing)
    async with listening(streaming.app) as port:
        client = await port.connect()
        client.send(STREAM % b"HEAD")
        client.end()
        async with asyncio.timeout(PATIENCE):
            await probed.wait()
        streaming.released.set()
        head = await client.rest()
        assert head.startswith(b"HTTP/1.1 200")
        assert head.endswith(b"\r\n\r\n")
        await port.settle()

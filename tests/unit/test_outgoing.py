"""Calls to receivers whose addresses swallow or refuse what they are sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest

from captiond.callbacks import Target
from captiond.supervisor import outgoing
from captiond.supervisor.outgoing import NoResponse, ResponseHead, post

pytestmark = pytest.mark.anyio
SWALLOWS, WELL, REFUSES = "127.0.0.2", "127.0.0.1", "127.0.0.3"


@contextmanager
def swallowing() -> Iterator[int]:
    """A port at SWALLOWS whose backlog is full: the kernel drops every SYN that comes."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((SWALLOWS, 0))
        listener.listen(0)
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.settimeout(0.2)
            try:
                client.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            raise AssertionError("the backlog does not fill")
        yield listener.getsockname()[1]


@asynccontextmanager
async def answering(port: int) -> AsyncIterator[None]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, WELL, port):
        yield


async def call(monkeypatch: pytest.MonkeyPatch, port: int, *addresses: str) -> ResponseHead:
    async def look_up(*_: object) -> list[str]:
        return list(addresses)

    monkeypatch.setattr(outgoing, "look_up", look_up)
    return await post(Target("http", "a.example", port, "/"), {}, b"{}", seconds=2)


async def test_an_address_that_swallows_calls_leaves_time_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with swallowing() as port:
        async with answering(port):
            assert await call(monkeypatch, port, SWALLOWS, WELL) == ResponseHead(204, 0.0)


async def test_the_first_address_is_named_if_none_takes_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        swallowing() as port,
        pytest.raises(NoResponse, match=f"{SWALLOWS}: no connection within 1"),
    ):
        await call(monkeypatch, port, SWALLOWS, REFUSES)


async def test_a_single_address_has_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with swallowing() as port, pytest.raises(NoResponse, match="no answer within 2 s"):
        await call(monkeypatch, port, SWALLOWS)

"""What a handler receives of its request, in whatever order it arrives and is asked for."""

import asyncio

import pytest

from captiond.errors import MalformedBody
from captiond.web.connections.inbox import ROOM_BYTES, RequestInbox
from tests.patience import PATIENCE

pytestmark = pytest.mark.anyio
DISCONNECT = {"type": "http.disconnect"}


async def put(inbox: RequestInbox, body: bytes, *, more: bool = True) -> None:
    await inbox.put({"type": "http.request", "body": body, "more_body": more})


async def test_pieces_are_joined_until_the_handler_asks() -> None:
    inbox = RequestInbox()
    for _ in range(1000):
        await put(inbox, b"a")
    assert await inbox.receive() == {
        "type": "http.request",
        "body": b"a" * 1000,
        "more_body": True,
    }
    await put(inbox, b"", more=False)
    assert await inbox.receive() == {"type": "http.request", "body": b"", "more_body": False}


async def test_nobody_who_writes_waits_for_a_handler_that_reads_nothing() -> None:
    inbox = RequestInbox()
    async with asyncio.timeout(PATIENCE):
        for _ in range(100):
            await put(inbox, bytes(ROOM_BYTES))
        await inbox.put(DISCONNECT)
        await inbox.put(DISCONNECT)


async def test_there_is_room_again_once_the_handler_has_read_or_returned() -> None:
    for make_room in (RequestInbox.receive, RequestInbox.close):
        inbox = RequestInbox()
        await put(inbox, bytes(ROOM_BYTES))
        waiting = asyncio.create_task(inbox.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        made = make_room(inbox)
        if asyncio.iscoroutine(made):
            await made
        await waiting


async def test_a_complete_body_comes_before_the_disconnect() -> None:
    inbox = RequestInbox()
    await put(inbox, b"ab", more=False)
    await inbox.put(DISCONNECT)
    assert (await inbox.receive())["body"] == b"ab"
    assert [await inbox.receive() for _ in range(2)] == [DISCONNECT, DISCONNECT]


async def test_an_incomplete_body_of_a_client_that_is_gone_is_dropped() -> None:
    inbox = RequestInbox()
    await put(inbox, b"ab")
    await inbox.put(DISCONNECT)
    assert await inbox.receive() == DISCONNECT


async def test_a_handler_that_waits_gets_the_error() -> None:
    inbox = RequestInbox()
    waiting = asyncio.create_task(inbox.receive())
    await asyncio.sleep(0)
    inbox.fail(MalformedBody("why"))
    with pytest.raises(MalformedBody):
        await waiting


async def test_nothing_is_kept_for_a_handler_that_has_returned() -> None:
    inbox = RequestInbox()
    inbox.close()
    await put(inbox, bytes(ROOM_BYTES))
    await inbox.wait_for_room()

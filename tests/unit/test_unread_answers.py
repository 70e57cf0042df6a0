"""A client that takes nothing of its answer holds a request for so long, and no longer."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from captiond.web.middleware import DrainUnreadBody

pytestmark = pytest.mark.anyio
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


async def answering(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(START)
    await send({"type": "http.response.body", "body": b"a page"})


async def test_it_is_taken_to_be_gone() -> None:
    sent: list[str] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    with pytest.raises(ClientDisconnect):
        await DrainUnreadBody(answering, seconds=0.05)({"type": "http"}, receive, send)
    assert sent == ["http.response.start", "http.response.body"]

"""What arrives for one request: its body, and the end of its connection.

Hypercorn puts these messages into a bounded queue. Whoever puts a message into a full queue waits,
and waits for ever if the handler reads nothing. A `RequestInbox` never lets its writer wait. It
joins the pieces of a body until the handler asks for them, so that a body in chunks of one byte
wakes the handler no more often than a body in large chunks.
"""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.types import Message

ROOM_BYTES = 64 * 1024  # the connection reads no more while the handler has so much left to read


class Evicted(ClientDisconnect):
    """The connection was closed in favour of another one, while it waited for its client."""


class RequestInbox:
    """The messages of one request. The connection writes, and the handler reads.

    A handler that has returned reads nothing more: call `close` then, and what arrives afterwards
    is discarded. `ask` is called each time the handler waits for something that has not arrived.
    """

    def __init__(self, ask: Callable[[], Awaitable[None]] | None = None) -> None:
        self._ask = ask
        self._pieces: list[bytes] = []
        self._size = 0
        self._complete = self._delivered = self._gone = self._closed = False
        self._error: Exception | None = None
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()

    async def put(self, message: Message) -> None:
        """Take a message of the connection. It never waits."""
        if self._closed:
            return
        if message["type"] == "http.disconnect":
            self._gone = True
        else:
            self._add(message["body"])
            self._complete = not message["more_body"]
        self._arrived.set()

    def _add(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
        if self._size >= ROOM_BYTES:
            self._room.clear()

    def fail(self, error: Exception) -> None:
        """Let the handler's next `receive` raise `error`. The rest of the body is discarded."""
        if not self._closed and not self._complete:
            self._error = error
            self._arrived.set()
            self._make_room()

    async def receive(self) -> Message:
        """Return the next message: the body in pieces, then the disconnect, as often as asked.

        If the client disconnects before its body is complete, the handler gets no more of it.
        """
        while (message := self._next()) is None:
            self._arrived.clear()
            if self._ask is not None:
                await self._ask()
            await self._arrived.wait()
        return message

    def _next(self) -> Message | None:
        """Return the message that is due now, or None."""
        if self._error is not None:
            raise self._error
        if self._gone and (self._delivered or not self._complete):
            self._make_room()
            return {"type": "http.disconnect"}
        if self._pieces or (self._complete and not self._delivered):
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._delivered = self._complete
            self._make_room()
            return {"type": "http.request", "body": body, "more_body": not self._complete}
        return None

    async def wait_for_room(self) -> None:
        """Wait while the handler has much of the body left to read."""
        await self._room.wait()

    def close(self) -> None:
        """Discard what there is, and what will arrive."""
        self._closed = True
        self._make_room()

    def _make_room(self) -> None:
        self._pieces = []
        self._size = 0
        self._room.set()

"""A request whose answer takes as long as it takes: the test reads it piece by piece, or leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Scope

from tests.patience import PATIENCE


class OpenRequest:
    """A GET request to an application. `body` is what has arrived so far."""

    def __init__(self, app: ASGIApp, target: str, headers: dict[str, str], method: str) -> None:
        self.status: int | None = None
        self.body = b""
        self.ended = False
        self.headers: dict[str, str] = {}
        self._left = asyncio.Event()
        self._news = asyncio.Condition()
        self._asked = False
        self.task = asyncio.ensure_future(
            app(scope_of(target, headers, method), self._receive, self._send)
        )

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        async with self._news:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                self.body += message["body"]
                self.ended = not message.get("more_body", False)
                length = int(self.headers.get("content-length", len(self.body)))
                assert len(self.body) <= length, "more than the Content-Length"
            self._news.notify_all()

    async def has(self, part: bytes, times: int = 1) -> None:
        """Wait until the body contains `part` at least `times` times."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.body.count(part) >= times)

    async def answered(self) -> int:
        """Wait for the end of the answer, and return its status."""
        async with asyncio.timeout(PATIENCE):
            await self.task
        assert self.status is not None
        return self.status

    async def leave(self) -> None:
        """Disconnect, and wait until the application has noticed."""
        self._left.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([self.task])


def scope_of(target: str, headers: dict[str, str], method: str) -> Scope:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [
            (b"host", b"localhost"),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
    }


@asynccontextmanager
async def open_request(
    app: ASGIApp, target: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> AsyncIterator[OpenRequest]:
    """Send a request. It is given up at the end of the block."""
    request = OpenRequest(app, target, headers or {}, method)
    try:
        yield request
    finally:
        request.task.cancel()
        await asyncio.gather(request.task, return_exceptions=True)

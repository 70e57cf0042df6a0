"""What stands around the application: draining of unread bodies, request ids, the access log."""

import asyncio
import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captiond.web.problems import problem

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
log = structlog.get_logger()


class DrainUnreadBody:
    """Outermost: reads what an early answer leaves unread of a request's body.

    The answer goes out at once, its end after the body. Without it, Hypercorn 0.18 leaks two
    tasks and a descriptor for each large body that is answered early, and cannot stop while it
    has any: it blocks on the queue nobody reads. And it closes a connection whose request has
    not ended when the answer has, by which the client, still sending, may lose the answer.
    A body that is still coming `seconds` later is not waited for, but read until the answer has
    ended: a byte that came in between would block Hypercorn there.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = RequestBody(receive)
        drains: list[asyncio.Task[None]] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.ended:
                # Beside the sending: that, too, blocks on the queue once the connection is lost.
                drains.append(asyncio.create_task(body.drain()))
            if drains and is_end_of_response(message):
                await self._send(send, {**message, "more_body": True})
                await asyncio.wait(drains, timeout=self.seconds)
                message = {"type": "http.response.body", "body": b""}
            await self._send(send, message)

        try:
            await self.app(scope, body.receive, sending)
        finally:
            for drain in drains:
                drain.cancel()

    async def _send(self, send: Send, message: Message) -> None:
        """Send, unless the client takes none of it for `seconds`: then it is gone."""
        try:
            async with asyncio.timeout(self.seconds):
                await send(message)
        except TimeoutError:
            raise ClientDisconnect from None


def is_end_of_response(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)


class RequestBody:
    """A request's `receive` that knows whether the body has come to its end."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._lock = asyncio.Lock()
        self._disconnect: Message | None = None
        self.ended = False

    async def receive(self) -> Message:
        async with self._lock:
            if self._disconnect is not None:
                return self._disconnect
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._disconnect = message
            self.ended = self._disconnect is not None or not message.get("more_body", False)
            return message

    async def drain(self) -> None:
        while not self.ended:
            await self.receive()


class RequestContext:
    """Gives every request an id, and every response that id; logs one line for each.

    An exception that nobody expected becomes a 500 here, with its traceback in the log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = request_id(Headers(scope=scope))
        exchange = Exchange(scope, send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            await self._answer(scope, receive, exchange)
            exchange.log()

    async def _answer(self, scope: Scope, receive: Receive, exchange: "Exchange") -> None:
        try:
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.gone = True
        except Exception:  # the outermost boundary of a request: logged, and told as a 500
            log.exception("request_failed")
            if exchange.status is None:
                response = problem(
                    Request(scope), 500, "internal_error", "Internal error; it has been logged."
                )
                await response(scope, receive, exchange.send)


class Exchange:
    """One request and what was answered to it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.request_id: str = scope["state"]["request_id"]
        self.status: int | None = None
        self.gone = False
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = self.request_id
        await self._send(message)

    def log(self) -> None:
        client = self._scope.get("client")
        log.info(
            "client_gone" if self.gone else "request",
            method=self._scope["method"],
            path=self._scope["path"],
            status=self.status,
            ms=round((time.perf_counter() - self._started) * 1000, 1),
            client=client[0] if client else None,
        )


def request_id(headers: Headers) -> str:
    """The client's own id where it is a sane one, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)

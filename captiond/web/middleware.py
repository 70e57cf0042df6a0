"""Middleware: reading bodies that a handler leaves unread, request ids, access log and metrics."""

import asyncio
import re
import secrets
import time
from collections.abc import Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captiond.metrics import REQUEST_ERRORS, REQUESTS, Recorder
from captiond.web.problems import problem

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
TASK_ID = re.compile(r"(task_\d+_[0-9a-f]{6})[0-9a-f]+")
PATH_SHOWN = 200  # characters
NO_ROUTE = "unmatched"  # the label of requests whose path has no route
NO_STATUS = "disconnected"  # the label of requests whose client disconnected before the answer
log = structlog.get_logger()


class DrainUnreadBody:
    """The outermost middleware. It reads the rest of a request's body after an early answer.

    The answer is sent at once, and its end after the body was read. Without this, Hypercorn 0.18
    leaks two tasks and a descriptor for each large body that is answered early, and it cannot stop
    while there are any, because it blocks on a queue that nobody reads. It also closes the
    connection if the answer ends before the request, and a client that is still sending may then
    lose the answer.

    The end of the answer waits at most `seconds` for the body. The body is read until then, because
    a byte that arrives unread would block Hypercorn.
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
                # A task, because sending also blocks on the queue once the connection is lost.
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
        """Send a message. A client that accepts none of it for `seconds` counts as disconnected."""
        try:
            async with asyncio.timeout(self.seconds):
                await send(message)
        except TimeoutError:
            raise ClientDisconnect from None


def is_end_of_response(message: Message) -> bool:
    """Return whether this message is the last of a response."""
    return message["type"] == "http.response.body" and not message.get("more_body", False)


class RequestBody:
    """The `receive` function of a request. It knows whether the body was read completely."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._lock = asyncio.Lock()
        self._disconnect: Message | None = None
        self.ended = False

    async def receive(self) -> Message:
        """Return the next message, or again the disconnect if there was one."""
        async with self._lock:
            if self._disconnect is not None:
                return self._disconnect
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._disconnect = message
            self.ended = self._disconnect is not None or not message.get("more_body", False)
            return message

    async def drain(self) -> None:
        """Read the body to its end, and discard it."""
        while not self.ended:
            await self.receive()


class RequestContext:
    """Gives every request an id, and logs and counts every request.

    An unexpected exception is logged with its traceback, and answered with 500. `paths` maps the
    endpoints of the routes to their path templates, which are labels of the metrics.
    """

    def __init__(self, app: ASGIApp, recorder: Recorder, paths: Mapping[object, str]) -> None:
        self.app = app
        self._recorder = recorder
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = request_id(Headers(scope=scope))
        exchange = Exchange(scope, send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            await self._answer(scope, receive, exchange)
            exchange.log()
        self._count(scope, exchange)

    async def _answer(self, scope: Scope, receive: Receive, exchange: "Exchange") -> None:
        try:
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.gone = True
        except Exception:  # the outermost boundary of a request
            log.exception("request_failed")
            if exchange.status is None:
                response = problem(
                    Request(scope), 500, "internal_error", "Internal error; it has been logged."
                )
                await response(scope, receive, exchange.send)

    def _count(self, scope: Scope, exchange: "Exchange") -> None:
        route = self._paths.get(scope.get("endpoint"), NO_ROUTE)
        self._recorder.count(REQUESTS, route, str(exchange.status or NO_STATUS))
        if "error_code" in scope["state"]:
            self._recorder.count(REQUEST_ERRORS, scope["state"]["error_code"])


class Exchange:
    """A request and its response."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.request_id: str = scope["state"]["request_id"]
        self.status: int | None = None
        self.gone = False
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Send a message of the response, with the request's id in its headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = self.request_id
        await self._send(message)

    def log(self) -> None:
        """Log the request: one line, after the response."""
        client, state = self._scope.get("client"), self._scope["state"]
        reasons = {"code": state.get("error_code"), "reason": state.get("error_detail")}
        log.info(
            "client_gone" if self.gone else "request",
            method=self._scope["method"],
            path=loggable(self._scope["path"]),
            status=self.status,
            ms=round((time.perf_counter() - self._started) * 1000, 1),
            client=client[0] if client else None,
            **{name: value for name, value in reasons.items() if value is not None},
        )


def loggable(path: str) -> str:
    """Return a path as the log may show it: not longer than PATH_SHOWN, and with no whole task id.

    Whoever has the id of a task can read its results. The part that is left is enough to find the
    task in `captiond tasks list`.
    """
    return TASK_ID.sub(r"\1…", path)[:PATH_SHOWN]


def request_id(headers: Headers) -> str:
    """Return the client's X-Request-ID if it has a safe format, else a new id."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)

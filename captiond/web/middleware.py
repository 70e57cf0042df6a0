"""Middleware: request ids, errors that no handler sees, access log and metrics."""

import logging
import re
import secrets
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captiond.errors import CannotStore, CaptiondError, Draining, ModelNotReady, RequestError
from captiond.logs import shortened
from captiond.metrics import CLIENTS_LIMITED, REQUEST_ERRORS, REQUEST_SECONDS, REQUESTS
from captiond.recording import Recorder
from captiond.web.connections.http1 import REFUSED
from captiond.web.connections.inbox import Evicted
from captiond.web.origin import SPAN
from captiond.web.problems import on_captiond_error, on_http_error, problem
from captiond.web.root_path import own_path

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# The answers of probes while no image can be captioned: statuses, and codes of errors if any.
CODES_OF_PROBES = (None, ModelNotReady.code, CannotStore.code, Draining.code)
NOT_READY = {(503, code) for code in CODES_OF_PROBES}
PATH_SHOWN, METHOD_SHOWN = 200, 20  # characters
NO_ROUTE = "unmatched"  # the label of requests whose path has no route
NO_STATUS = "disconnected"  # the label of requests whose client disconnected before the answer
if TYPE_CHECKING:
    from captiond.spans import Traces

METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
OTHER_METHOD = "other"  # the label of methods that clients have invented
OF_THE_BODY = {"content-type", "content-length"}  # headers
log = structlog.get_logger()


class RequestContext:
    """Gives every request an id, and logs, counts and times every request.

    An unexpected exception is logged with its traceback, and answered with 500. A request that the
    protocol refuses (`REFUSED` in its state) is answered here. `paths` maps the endpoints of the
    routes to their path templates, which are labels of the metrics. `quiet` has the endpoints whose
    requests are logged at the level debug, and which have no trace. `traces` is None if there are
    no traces.
    """

    def __init__(
        self,
        app: ASGIApp,
        recorder: Recorder,
        paths: Mapping[object, str],
        quiet: Collection[object] = (),
        traces: "Traces | None" = None,
    ) -> None:
        self.app = app
        self._recorder = recorder
        self._paths = paths
        self._quiet = quiet
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = request_id(Headers(scope=scope))
        exchange = Exchange(scope, send)
        with structlog.contextvars.bound_contextvars(**self._begun(scope, exchange)):
            await self._answer(scope, receive, exchange)
            if not exchange.evicted:  # the listener logs how many are
                exchange.log(quiet=scope.get("endpoint") in self._quiet)
        self._count(scope, exchange)
        self._end_span(scope, exchange)

    def _begun(self, scope: Scope, exchange: "Exchange") -> dict[str, str]:
        """Begin the request's span, if there are traces. Return its ids, as the log shows them."""
        ids = {"request_id": exchange.request_id}
        if self._traces is None:
            return ids
        span = self._traces.begin_request(method_label(scope), Headers(scope=scope))
        scope["state"][SPAN] = span
        return {**ids, "trace_id": self._traces.trace_id_of(span)}

    def _end_span(self, scope: Scope, exchange: "Exchange") -> None:
        """End the request's span. The spans of quiet endpoints are dropped."""
        if self._traces is None or scope.get("endpoint") in self._quiet:
            return
        route = self._paths.get(scope.get("endpoint"), NO_ROUTE)
        self._traces.end_request(
            scope["state"][SPAN],
            name=f"{method_label(scope)} {route}",
            status=exchange.status,
            code=scope["state"].get("error_code"),
            request_id=exchange.request_id,
        )

    async def _answer(self, scope: Scope, receive: Receive, exchange: "Exchange") -> None:
        try:
            refused: RequestError | None = scope["state"].get(REFUSED)
            if refused is None:
                await self.app(scope, receive, exchange.send)
            else:
                response = await on_captiond_error(Request(scope), refused)
                await response(scope, receive, exchange.send)
        except Evicted:
            exchange.evicted = True
        except ClientDisconnect:
            exchange.gone = True
        except Exception as error:  # the outermost boundary of a request
            # An error while the answer is sent, which Starlette makes another one of.
            if exchange.status is not None and isinstance(error.__cause__, CaptiondError):
                exchange.break_off(error.__cause__)
                return
            log.exception("request_failed")
            if exchange.status is None:
                response = problem(
                    Request(scope), 500, "internal_error", "Internal error; it has been logged."
                )
                await response(scope, receive, exchange.send)

    def _count(self, scope: Scope, exchange: "Exchange") -> None:
        route = self._paths.get(scope.get("endpoint"), NO_ROUTE)
        method = method_label(scope)
        self._recorder.count(REQUESTS, method, route, str(exchange.status or NO_STATUS))
        self._recorder.observe(REQUEST_SECONDS, exchange.seconds, method, route)
        state = scope["state"]
        if "error_code" in state:
            self._recorder.count(REQUEST_ERRORS, state["error_code"])
        if "limit" in state:
            self._recorder.count(CLIENTS_LIMITED, state["limit"])


def method_label(scope: Scope) -> str:
    """Return the method of a request, as a value that clients cannot make up."""
    return scope["method"] if scope["method"] in METHODS else OTHER_METHOD


class Exchange:
    """A request and its response."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.request_id: str = scope["state"]["request_id"]
        self.status: int | None = None
        self.gone = self.evicted = False
        self._foreign: Message | None = None
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Send a message of the response, with the request's id in its headers.

        An error of Starlette's own, such as a wrong Range of a file, becomes one of captiond's.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = self.request_id
            # guard: errors-have-one-form
            if is_foreign_error(message):
                self._foreign = message
                return
        if self._foreign is None:
            await self._send(message)
        elif not message.get("more_body", False):
            await self._replace(self._foreign, message)

    async def _replace(self, start: Message, body: Message) -> None:
        """Send an error whose text is `body` in captiond's form."""
        given = Headers(raw=start["headers"])
        headers = {name: value for name, value in given.items() if name not in OF_THE_BODY}
        detail = body.get("body", b"").decode("utf-8", "replace")
        error = HTTPException(start["status"], detail or None, headers)
        response = await on_http_error(Request(self._scope), error)
        await self._send(
            {"type": start["type"], "status": start["status"], "headers": response.raw_headers}
        )
        await self._send({"type": body["type"], "body": response.body})

    def break_off(self, error: CaptiondError) -> None:
        """Note why the answer ends early: the client's body is wrong, or the database fails."""
        if isinstance(error, RequestError):
            self.gone = True
        else:
            log.error("answer_broken_off", reason=str(error))

    @property
    def seconds(self) -> float:
        """The time since the request began."""
        return time.perf_counter() - self._started

    def log(self, *, quiet: bool) -> None:
        """Log the request: one line, after the response.

        Probes, polls and files of the page are `quiet`: their lines would hide the others. They are
        logged at the level debug unless the answer is an error.
        """
        client, state = self._scope.get("client"), self._scope["state"]
        reasons = {"code": state.get("error_code"), "reason": state.get("error_detail")}
        key = state.get("key")
        not_ready = (self.status, state.get("error_code")) in NOT_READY
        failed = (self.status or 0) >= 400 and not not_ready
        level = logging.DEBUG if quiet and not failed else logging.INFO
        log.log(
            level,
            "client_gone" if self.gone else "request",
            method=self._scope["method"][:METHOD_SHOWN],
            path=loggable(own_path(self._scope)),
            status=self.status,
            ms=round(self.seconds * 1000, 1),
            client=client[0] if client else None,
            **({"key": key.name} if key is not None else {}),
            **{name: value for name, value in reasons.items() if value is not None},
        )


def loggable(path: str) -> str:
    """Return a path as the log may show it: not longer than PATH_SHOWN, with no whole task id."""
    return shortened(path)[:PATH_SHOWN]


def is_foreign_error(start: Message) -> bool:
    """Return whether a response is an error that is not in JSON."""
    kind = Headers(raw=start["headers"]).get("content-type", "")
    return start["status"] >= 400 and not kind.startswith("application/json")


def request_id(headers: Headers) -> str:
    """Return the client's X-Request-ID if it has a safe format, else a new id."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)

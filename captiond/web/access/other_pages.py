"""Middleware against web pages of other sites, and for those that may use the service (CORS).

`captiond.origins` has the rules.
"""

import re
import socket
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captiond.errors import CaptiondError
from captiond.origins import ANY, Caller, PageRules
from captiond.settings.server_settings import ServerSettings
from captiond.web.problems import on_captiond_error

Header = tuple[bytes, bytes]
# The pages load files of captiond only, and show the chosen images (blob:). They make no HTML from
# text, and no other page may frame them.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SECURITY_HEADERS = tuple(
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": CONTENT_POLICY,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }.items()
)
ALLOWED_METHODS = "GET, HEAD, POST, DELETE"
EXPOSED_HEADERS = "Content-Disposition, ETag, Location, Retry-After, Task-Status, X-Request-ID"
PREFLIGHT_SECONDS = 600  # how long a browser remembers the answer
HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,1000}")


def page_rules(server: ServerSettings) -> PageRules:
    """Return the rules of a server. The host that it listens on and the machine's are its own."""
    hosts = (*server.hosts, server.host, socket.gethostname())
    return PageRules.of(hosts, server.cors_origins)


class ResponseHeaders:
    """Adds to every response what browsers need to know to protect the service and its page."""

    def __init__(self, app: ASGIApp, rules: PageRules) -> None:
        self.app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        cors = self._cors(scope)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = map(with_relative_location, message["headers"])
                message["headers"] = [*headers, *SECURITY_HEADERS, *cors]
            await send(message)

        await self.app(scope, receive, sending)

    def _cors(self, scope: Scope) -> list[Header]:
        """Return the headers that let a page of the request's origin read the response."""
        if not self._rules.origins:
            return []
        origin = caller_of(scope).origin
        headers = [] if ANY in self._rules.origins else [(b"vary", b"Origin")]
        if origin is not None and self._rules.allows(origin):
            allowed = ANY if ANY in self._rules.origins else origin
            headers += [
                (b"access-control-allow-origin", allowed.encode("latin-1")),
                (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
            ]
        return headers


def with_relative_location(header: Header) -> Header:
    """Return a header, without the host if it is `Location`.

    Starlette takes the host of a redirect from the request, so it may be forged.
    """
    name, value = header
    if name.lower() != b"location":
        return header
    parts = urlsplit(value.decode("latin-1"))
    path = "/" + parts.path.lstrip("/")  # a path that begins with two slashes is a host
    return name, parts._replace(scheme="", netloc="", path=path).geturl().encode("latin-1")


class PageGuard:
    """Refuses requests for other hosts and from pages of other origins. Answers preflights."""

    def __init__(self, app: ASGIApp, rules: PageRules) -> None:
        self.app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller, preflight = caller_of(scope), is_preflight(scope)
        try:
            self._rules.check(caller)
            if preflight:
                self._rules.check_origin(caller)
        except CaptiondError as error:
            response: Response = await on_captiond_error(Request(scope), error)
        else:
            if not preflight:
                await self.app(scope, receive, send)
                return
            response = preflight_response(Request(scope))
        await response(scope, receive, send)


def caller_of(scope: Scope) -> Caller:
    """Return what a request says about where it comes from."""
    headers: dict[bytes, bytes] = dict(scope["headers"])  # their names are in lower case
    host, origin, site = (
        value.decode("latin-1") if (value := headers.get(name)) is not None else None
        for name in (b"host", b"origin", b"sec-fetch-site")
    )
    return Caller(scope["method"], host, origin, site)


def is_preflight(scope: Scope) -> bool:
    """Return whether a browser asks what a page of another origin may send."""
    names = {name for name, _ in scope["headers"]} if scope["method"] == "OPTIONS" else ()
    return b"origin" in names and b"access-control-request-method" in names


def preflight_response(request: Request) -> Response:
    """Return the answer to a preflight of an origin that may use the service."""
    asked = request.headers.get("access-control-request-headers", "")
    headers = {
        "Access-Control-Allow-Methods": ALLOWED_METHODS,
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }
    if HEADER_NAMES.fullmatch(asked):
        headers["Access-Control-Allow-Headers"] = asked
    if "access-control-request-private-network" in request.headers:
        headers["Access-Control-Allow-Private-Network"] = "true"
    return Response(status_code=204, headers=headers)

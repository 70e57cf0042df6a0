"""Which requests HTTP/1.1 allows, beyond what h11 checks (RFC 9112 and RFC 9110)."""

import re
from urllib.parse import urlsplit

import h11

from captiond.errors import RequestError

ABSOLUTE = re.compile(rb"https?://", re.IGNORECASE)
Headers = list[tuple[bytes, bytes]]


class MalformedRequest(RequestError):
    """The request line or the headers are not HTTP/1.1."""

    code = "malformed_request"


class HeadTooLarge(RequestError):
    """The request line and the headers are longer than captiond reads."""

    code = "headers_too_large"
    status = 431


class TransferCodingRefused(RequestError):
    """The body has a Transfer-Encoding other than chunked."""

    code = "transfer_encoding_not_supported"
    status = 501


class VersionRefused(RequestError):
    """The request has a major version of HTTP other than 1."""

    code = "http_version_not_supported"
    status = 505


class UpgradeRefused(RequestError):
    """The request asks for WebSocket, which captiond does not speak."""

    code = "upgrade_not_supported"


def check_request(request: h11.Request) -> None:
    """Return if captiond serves requests like this one.

    Raises:
        MalformedRequest: its framing is ambiguous, or its target has no form for its method.
        UpgradeRefused: it asks for WebSocket. Other upgrades are ignored, as RFC 9110 allows.
        VersionRefused: it has another major version of HTTP.
    """
    if request.method == b"PRI":
        raise MalformedRequest("HTTP/2 is not served here, only HTTP/1.1")
    if not request.http_version.startswith(b"1."):
        raise VersionRefused("only HTTP/1.1 and HTTP/1.0 are served here")
    check_framing(request)
    check_target(request)
    if b"websocket" in tokens(request, b"upgrade"):
        raise UpgradeRefused("WebSocket is not served here")


def check_framing(request: h11.Request) -> None:
    """Raise MalformedRequest if two recipients could read different bodies (RFC 9112, 6.1)."""
    if not tokens(request, b"transfer-encoding"):
        return
    if tokens(request, b"content-length"):
        raise MalformedRequest("a request has Content-Length or Transfer-Encoding, but not both")
    if request.http_version < b"1.1":
        raise MalformedRequest("an HTTP/1.0 request cannot have a Transfer-Encoding")


def check_target(request: h11.Request) -> None:
    """Raise MalformedRequest if the target is none of the forms of RFC 9112, 3.2."""
    if request.method == b"CONNECT":
        raise MalformedRequest("CONNECT is not served here: captiond is no proxy")
    target = request.target
    if not (target.startswith(b"/") or ABSOLUTE.match(target) or is_asterisk(request)):
        raise MalformedRequest("the request target is neither a path nor a URL")


def is_asterisk(request: h11.Request) -> bool:
    """Return whether the request is about the server as a whole: `OPTIONS *`."""
    return (request.method, request.target) == (b"OPTIONS", b"*")


def origin_form(request: h11.Request) -> tuple[bytes, Headers]:
    """Return the path and query of a checked request, and its headers.

    The host of an absolute target replaces that of the Host header (RFC 9112, 3.2.2).
    """
    headers: Headers = list(request.headers)
    if not ABSOLUTE.match(request.target):
        return request.target, headers
    try:
        url = urlsplit(request.target)
    except ValueError as error:
        raise MalformedRequest("the request target is not a valid URL") from error
    query = b"?" + url.query if url.query else b""
    others = [header for header in headers if header[0] != b"host"]
    return (url.path or b"/") + query, [(b"host", url.netloc), *others]


def tokens(request: h11.Request, name: bytes) -> list[bytes]:
    """Return the elements of a header that is a list, in lower case."""
    values = [value for header, value in request.headers if header == name]
    return [part.strip().lower() for part in b",".join(values).split(b",") if part.strip()]


def unreadable(error: h11.RemoteProtocolError) -> RequestError:
    """Return the error for a request whose head h11 cannot read."""
    match error.error_status_hint:
        case 431:
            return HeadTooLarge("the request line and the headers are too long")
        case 501:
            return TransferCodingRefused("the only Transfer-Encoding that is read is chunked")
    reason, _, _ = str(error).partition(":")  # what follows is what the client has sent
    return MalformedRequest(f"the request is not valid HTTP/1.1: {reason}")

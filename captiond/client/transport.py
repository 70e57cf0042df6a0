"""What both clients ask of httpx2: the arguments of a request, and the meaning of its errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from captiond import __version__
from captiond.client.calls import Call, Reply
from captiond.client.events import EventReader
from captiond.client.failures import AnswerNotUnderstood, ServiceUnreachable

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 300.0  # seconds
CONNECT_SECONDS = 10.0
LOOPBACK = re.compile(r"localhost\.?|127\.[\d.]+|::1", re.IGNORECASE)
WITHOUT_PROXY = {"all://": None, "http://": None, "https://": None}
QUIET_SECONDS = 60.0  # the service sends something to those who read events every 15 seconds


def base_arguments(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    """Return the arguments of an httpx2 client for a service.

    Raises:
        ServiceUnreachable: this is no URL.
    """
    try:
        base_url = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ServiceUnreachable(f"{url!r} is no URL of a service: {error}") from error
    headers = {"User-Agent": f"captiond-client/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return {
        "base_url": base_url,
        "headers": headers,
        "timeout": httpx2.Timeout(timeout, connect=CONNECT_SECONDS),
        # A proxy of the environment would call its own loopback address, not that of this machine.
        "mounts": WITHOUT_PROXY if LOOPBACK.fullmatch(base_url.host) else {},
    }


def request_arguments(call: Call, usual: httpx2.Timeout) -> dict[str, Any]:
    """Return the arguments of an httpx2 request for a call.

    `usual` is the timeout of the client.
    """
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.query),
        "headers": dict(call.headers),
        "data": dict(call.fields) or None,
        "files": [(call.file_field, part) for part in call.pictures] or None,
        "timeout": longer(usual, call.wait + (usual.read or 0)),
    }


def stream_arguments(reader: EventReader, usual: httpx2.Timeout) -> dict[str, Any]:
    """Return the arguments of an httpx2 request for events."""
    return {
        "method": "GET",
        "url": reader.path,
        "headers": dict(reader.headers),
        "timeout": longer(usual, QUIET_SECONDS),
    }


def longer(usual: httpx2.Timeout, seconds: float) -> httpx2.Timeout:
    """Return a timeout that waits at least so many seconds for data. None is no limit."""
    return httpx2.Timeout(
        connect=usual.connect,
        read=None if usual.read is None else max(usual.read, seconds),
        write=usual.write,
        pool=usual.pool,
    )


def reply_of(response: httpx2.Response) -> Reply:
    """Return a response that has been read."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content)


@contextmanager
def as_service_errors(http: httpx2.Client | httpx2.AsyncClient) -> Iterator[None]:
    """Raise errors of this package in place of those of httpx2."""
    try:
        yield
    except (httpx2.SSEError, httpx2.DecodingError) as error:
        raise AnswerNotUnderstood(f"the answer is not from captiond: {error}") from error
    except httpx2.TransportError as error:
        reason = str(error) or type(error).__name__
        raise ServiceUnreachable(f"no answer from {http.base_url}: {reason}") from error

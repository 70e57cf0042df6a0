"""One HTTP POST to another server, on the event loop, with a time limit.

This is not a client library. captiond sends one small request to a host that its operator has
listed, and reads the head of the response. There are no redirects, cookies, proxies or retries, and
the response's body is not read. Measured, this costs the supervisor 1.4 MB of memory with TLS,
where httpx costs 8 MB.
"""

import asyncio
import socket
import ssl
import threading
from dataclasses import dataclass
from functools import cache

import h11

from captiond.callbacks import Target

READ_BYTES = 16 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NoResponse(Exception):
    """The receiver has sent no HTTP response; the message says what happened instead."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a response. `retry_after` is in seconds, 0 if there is no such header."""

    status: int
    retry_after: float


async def post(
    target: Target, headers: dict[str, str], body: bytes, *, seconds: float
) -> ResponseHead:
    """Send `body`, and return the head of the response.

    Raises:
        NoResponse: there is none within `seconds`, for whatever reason.
    """
    try:
        async with asyncio.timeout(seconds):
            return await exchange(target, headers, body, seconds=seconds)
    except TimeoutError:
        raise NoResponse(f"no answer within {seconds:g} s") from None
    except h11.RemoteProtocolError as error:
        raise NoResponse(f"not HTTP: {error}") from error
    except (OSError, UnicodeError) as error:
        raise NoResponse(f"{type(error).__name__}: {error}") from error


async def exchange(
    target: Target, headers: dict[str, str], body: bytes, *, seconds: float
) -> ResponseHead:
    """Connect, send the request, and return the head of the response.

    Raises:
        OSError, UnicodeError: there is no such host, or no connection.
        h11.RemoteProtocolError: the response is not HTTP, or is cut off.
    """
    reader, writer = await connect(target, seconds=seconds)
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=READ_BYTES)
        head = {"Host": target.authority, **headers, "Content-Length": str(len(body))}
        request = h11.Request(
            method="POST",
            target=target.path,
            headers=[*head.items(), ("Connection", "close")],
        )
        for event in (request, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()
        return await response_head(connection, reader)
    finally:
        writer.transport.abort()


async def response_head(connection: h11.Connection, reader: asyncio.StreamReader) -> ResponseHead:
    """Read until the head of the response is complete, and return it."""
    while True:
        match connection.next_event():
            case h11.Response() as response:
                retry_after = dict(response.headers).get(b"retry-after", b"")
                return ResponseHead(response.status_code, seconds_in(retry_after))
            case h11.NEED_DATA:
                connection.receive_data(await reader.read(READ_BYTES))


def seconds_in(retry_after: bytes) -> float:
    """Return the seconds of a Retry-After header. Its other form, a date, counts as 0."""
    return float(retry_after) if retry_after.isdigit() else 0.0


async def connect(target: Target, *, seconds: float) -> Streams:
    """Return a connection to the first address of the host that accepts one.

    Each address gets its share of the remaining time, so an address that drops packets leaves time
    for the next one.

    Raises:
        OSError: no address accepts a connection. It is the error of the first address.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    addresses = await look_up(target.host, target.port)
    failure: OSError | None = None
    for number, address in enumerate(addresses):
        share = (deadline - loop.time()) / (len(addresses) - number)
        try:
            return await connect_to(address, target, seconds=share)
        except OSError as error:
            failure = failure or error
    raise failure or OSError("the host has no address")


async def connect_to(address: str, target: Target, *, seconds: float) -> Streams:
    """Return a connection to one address. Raises OSError, also when `seconds` have passed."""
    tls = tls_context() if target.scheme == "https" else None
    name = target.host if tls else None
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.open_connection(
                address, target.port, ssl=tls, server_hostname=name
            )
    except TimeoutError:
        raise OSError(f"{address}: no connection within {seconds:.3g} s") from None


@cache
def tls_context() -> ssl.SSLContext:
    """Return a context with the certificate authorities of the system or of SSL_CERT_FILE."""
    return ssl.create_default_context()


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host.

    The resolver runs in its own daemon thread. It can hang for half a minute, and the event loop's
    threads are few and are joined when the loop closes.

    Raises:
        OSError, UnicodeError: the host is unknown, or its name is invalid.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[list[str]] = loop.create_future()

    def set_result(addresses: list[str], error: Exception | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(addresses)
        else:
            result.set_exception(error)

    def run() -> None:
        addresses, problem = [], None
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except (OSError, UnicodeError) as error:
            problem = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(set_result, addresses, problem)

    threading.Thread(target=run, name="resolver", daemon=True).start()
    return await result

"""One HTTP POST to somebody else's server: on the event loop, bounded in time, nothing followed.

Not a client library: captiond sends one small request to a host that its operator has listed, and
reads the head of the answer. No redirects, cookies, proxies or retries; the body that comes back
is not read. Measured, it costs the supervisor 1.4 MB with TLS, where httpx costs 8.
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


class NoAnswer(Exception):
    """The receiver did not answer as HTTP does; the message says what it did."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of an answer; `retry_after` in seconds, 0 where it does not say."""

    status: int
    retry_after: float


async def post(target: Target, headers: dict[str, str], body: bytes, *, seconds: float) -> Reply:
    """Send `body`, and wait for the head of the answer.

    Raises:
        NoAnswer: there is none within `seconds`, for whatever reason.
    """
    try:
        async with asyncio.timeout(seconds):
            return await exchange(target, headers, body, seconds=seconds)
    except TimeoutError:
        raise NoAnswer(f"no answer within {seconds:g} s") from None
    except h11.RemoteProtocolError as error:
        raise NoAnswer(f"not HTTP: {error}") from error
    except (OSError, UnicodeError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error


async def exchange(
    target: Target, headers: dict[str, str], body: bytes, *, seconds: float
) -> Reply:
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
        return await head_of_answer(connection, reader)
    finally:
        writer.transport.abort()


async def head_of_answer(connection: h11.Connection, reader: asyncio.StreamReader) -> Reply:
    while True:
        match connection.next_event():
            case h11.Response() as response:
                headers = dict(response.headers)
                return Reply(response.status_code, seconds_in(headers.get(b"retry-after", b"")))
            case h11.NEED_DATA:
                connection.receive_data(await reader.read(READ_BYTES))


def seconds_in(retry_after: bytes) -> float:
    """A Retry-After in seconds; its other form, a date, counts as none."""
    return float(retry_after) if retry_after.isdigit() else 0.0


async def connect(target: Target, *, seconds: float) -> Streams:
    """A connection to the first address of the host that takes one.

    Each address has its share of the time that is left of `seconds`: one that swallows what it is
    sent leaves the rest to the next.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    addresses = await look_up(target.host, target.port)
    failure: OSError | None = None
    for number, address in enumerate(addresses):
        share = (end - loop.time()) / (len(addresses) - number)
        try:
            return await connect_to(address, target, seconds=share)
        except OSError as error:
            failure = failure or error
    raise failure or OSError("the host has no address")


async def connect_to(address: str, target: Target, *, seconds: float) -> Streams:
    """Raises OSError, also if it takes longer."""
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
    """The system's certificate authorities, or those that SSL_CERT_FILE names."""
    return ssl.create_default_context()


async def look_up(host: str, port: int) -> list[str]:
    """A host's addresses.

    In a thread of its own that nobody waits for: resolvers hang for half a minute, and the event
    loop's own threads are few and are joined when it closes.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: Exception | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def run() -> None:
        addresses, problem = [], None
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except (OSError, UnicodeError) as error:
            problem = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, addresses, problem)

    threading.Thread(target=run, name="look-up", daemon=True).start()
    return await found

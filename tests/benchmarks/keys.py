"""Measure what keys and limits cost: python -m tests.benchmarks.keys

The first figure is the processor time of a request in a web process, without Hypercorn and without
a model, which would make the share of keys and limits in it smaller. The others are the processor
time of the guard alone: without keys, and with keys and all limits in 1, 2 and 4 web processes. The
guard is measured alone because a request varies from one round to the next by more than it costs.
Each figure is the least of many rounds, which other load on the machine has disturbed least.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captiond.bench.load import HEAD, TAIL
from captiond.clients import Client
from captiond.jobs import Captioned
from captiond.keys import Key, digest_of, new_secret
from captiond.keys import Scope as KeyScope
from captiond.messages import Answer, Ask
from captiond.settings.client_settings import ClientSettings
from captiond.store.engine import make_engine
from captiond.store.migrate import prepare_database
from captiond.usage import ClientUsage, UsageBoard
from captiond.web.access.guard import Guard
from captiond.web.app import make_app
from captiond.web.services import Services
from tests.conftest import png
from tests.unit.webprocess import WebProcess, web_process

ROUNDS = 40
REQUESTS = 50  # in a round
SECRET = new_secret()
KEY = Key("bench", digest_of(SECRET.encode()))
LIMITS = ClientSettings(requests=10**9, concurrent=1000, images=1000, body_bytes=10**9)
CLIENT = Client("address:127.0.0.1")
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
BODY = HEAD + png(1) + TAIL
HEADERS = [
    (b"host", b"localhost"),
    (b"content-type", b"multipart/form-data; boundary=edge"),
    (b"content-length", str(len(BODY)).encode()),
    (b"x-api-key", SECRET.encode()),
]


def scope_of(app: object = None) -> Scope:
    """Return the scope of a request for one caption."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/caption",
        "raw_path": b"/caption",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": HEADERS,
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        "app": app,
    }


async def send(app: ASGIApp) -> None:
    """Send one image, and check that it is captioned."""
    statuses: list[int] = []
    body: list[Message] = [{"type": "http.request", "body": BODY, "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def respond(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope_of(), receive, respond)
    assert statuses == [200], statuses


async def answer(web: WebProcess) -> None:
    """Answer each image that the web process asks for, until cancelled."""
    while True:
        ask: Ask = await web.message(Ask)
        web.channel.send(Answer(ask.ticket, CAPTION))


@asynccontextmanager
async def web(folder: Path, clients: ClientSettings, *keys: Key) -> AsyncIterator[WebProcess]:
    """Run a web process that is answered at once. With keys, requests need one of them."""
    engine = make_engine(folder / "captiond.db")
    await prepare_database(engine)
    async with web_process(engine, folder, clients=clients) as process:
        await process.set_keys(*keys, required=bool(keys))
        answering = asyncio.create_task(answer(process))
        yield process
        answering.cancel()
    await engine.dispose()


async def of_request(folder: Path) -> float:
    """Return the processor time of a request without keys and limits, in seconds."""
    async with web(folder, ClientSettings()) as process:
        app, rounds = make_app(process.services), []
        for _ in range(ROUNDS):
            used = time.process_time()
            for _ in range(REQUESTS):
                await send(app)
            rounds.append((time.process_time() - used) / REQUESTS)
    return min(rounds)


async def of_guard(services: Services) -> float:
    """Return the processor time of the guard for a request, in seconds."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["admission"].hold_images(1)

    guard, rounds = Guard(handler, KeyScope.CAPTION), []
    app = SimpleNamespace(state=SimpleNamespace(services=services))
    for _ in range(ROUNDS):
        scopes = [{**scope_of(app), "state": {"client": CLIENT}} for _ in range(REQUESTS)]
        used = time.process_time()
        for scope in scopes:
            await guard(scope, never, discard)
        rounds.append((time.process_time() - used) / REQUESTS)
    return min(rounds)


async def never() -> Message:
    raise AssertionError("the body is not read")


async def discard(_: Message) -> None:
    pass


async def measure(folder: Path) -> None:
    """Measure and print all figures."""
    request = await of_request(folder / "request")
    write(f"a request, without keys and limits: {1e6 * request:.0f} µs")
    async with web(folder / "without", ClientSettings()) as process:
        least = await of_guard(process.services)
    write(f"of these the guard: {1e6 * least:.1f} µs")
    async with web(folder / "with", LIMITS, KEY) as process:
        for number in (1, 2, 4):
            usage = ClientUsage(UsageBoard(number), 0, window=LIMITS.window_seconds)
            guard = await of_guard(replace(process.services, usage=usage))
            share = request / (request + guard - least)
            write(
                f"the guard, with keys and limits in {number} web processes: {1e6 * guard:.1f} µs; "
                f"requests a second: {100 * share:.1f} % of those without"
            )


def write(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    with Path(os.devnull).open("w") as nothing, tempfile.TemporaryDirectory() as name:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(nothing))
        folder = Path(name)
        for part in ("request", "without", "with"):
            (folder / part).mkdir()
        asyncio.run(measure(folder))


if __name__ == "__main__":
    main()

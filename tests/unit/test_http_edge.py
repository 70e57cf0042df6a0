"""Every answer is captiond's own: its body, its code, its request id, and an entry in the log."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond.store.engine import Engine
from captiond.web.app import make_app
from tests.patience import PATIENCE
from tests.unit.filling import add_task
from tests.unit.listening import Client, Port, listening
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
ID = re.compile(rb"x-request-id: ([\w.-]+)\r\n", re.IGNORECASE)
HOST = b"Host: x\r\n"
WEBSOCKET = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
FORM = b"Content-Type: multipart/form-data; boundary=edge\r\n"
BODY = (
    b'--edge\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
    + PNG
    + b"\r\n--edge--\r\n"
)
MALFORMED = (400, "malformed_request")


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path) as process:
        yield process


@pytest.fixture
async def port(web: WebProcess) -> AsyncIterator[Port]:
    async with listening(make_app(web.services)) as port:
        yield port


def head(start: bytes, *headers: bytes) -> bytes:
    return start + b"\r\n" + HOST + b"".join(headers) + b"\r\n"


def upload(*headers: bytes, body: bytes = BODY) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return head(b"POST /async-batch-caption HTTP/1.1", FORM, length, *headers) + body


REFUSED = {
    "no request": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", MALFORMED),
    "half a head": (b"GET / HTTP/1.1\r\nHos", MALFORMED),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", MALFORMED),
    "two hosts": (head(b"GET / HTTP/1.1", HOST), MALFORMED),
    "space before the colon": (head(b"GET / HTTP/1.1", b"A : b\r\n"), MALFORMED),
    "long headers": (head(b"GET / HTTP/1.1", b"A: %s\r\n" % (b"a" * 90_000)), (431, None)),
    "two lengths": (upload(b"Content-Length: 3\r\n"), MALFORMED),
    "bad length": (head(b"POST / HTTP/1.1", b"Content-Length: -1\r\n"), MALFORMED),
    "length and coding": (upload(b"Transfer-Encoding: chunked\r\n"), MALFORMED),
    "coding of 1.0": (
        head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked\r\n"),
        MALFORMED,
    ),
    "other coding": (head(b"POST / HTTP/1.1", b"Transfer-Encoding: gzip\r\n"), (501, None)),
    "version 9.9": (head(b"GET / HTTP/9.9"), (505, "http_version_not_supported")),
    "version 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", MALFORMED),
    "CONNECT": (head(b"CONNECT x:443 HTTP/1.1"), MALFORMED),
    "no path": (head(b"GET version HTTP/1.1"), MALFORMED),
    "WebSocket": (head(b"GET / HTTP/1.1", WEBSOCKET), (400, "upgrade_not_supported")),
    "WebSocket elsewhere": (head(b"GET /no HTTP/1.1", WEBSOCKET), (400, "upgrade_not_supported")),
    "small letters": (head(b"get /version HTTP/1.1"), (405, "method_not_allowed")),
    "TRACE": (head(b"TRACE /version HTTP/1.1"), (405, "method_not_allowed")),
    "everything": (head(b"OPTIONS * HTTP/1.1"), (404, "not_found")),
    "bad range": (
        head(b"GET /static/page.js HTTP/1.1", b"Range: bytes=x-\r\n"),
        (400, "http_error"),
    ),
    "far range": (
        head(b"GET /static/page.js HTTP/1.1", b"Range: bytes=9999999-\r\n"),
        (416, "range_not_satisfiable"),
    ),
    "broken chunk": (
        head(b"POST /caption HTTP/1.1", FORM, b"Transfer-Encoding: chunked\r\n") + b"zz\r\n",
        (400, "malformed_body"),
    ),
    "small chunks": (
        head(b"POST /caption HTTP/1.1", FORM, b"Transfer-Encoding: chunked\r\n")
        + b"1\r\na\r\n" * 3000,
        (400, "malformed_body"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refusal_is_an_answer_of_captiond(port: Port, case: str) -> None:
    sent, (status, code) = REFUSED[case]
    with capture_logs() as logs:
        client = await port.connect()
        client.send(sent)
        if case == "half a head":
            client.end()
        await check_refusal(client, status, code)
        client.end()
        assert await client.rest() == b""
        await port.settle()
    (entry,) = logs
    assert (entry["event"], entry["status"]) == ("request", status)


async def check_refusal(client: Client, status: int, code: str | None) -> None:
    answered, head_, body = await client.read_response()
    problem = json.loads(body)
    assert answered == status, problem
    assert problem["code"] == code or (code is None and problem["code"])
    request_id = ID.search(head_)
    assert request_id is not None
    assert problem["request_id"] == request_id[1].decode()
    assert problem["detail"]
    assert b"\r\n\x16" not in body


KEEPS_OPEN = {"small letters", "TRACE", "everything", "bad range", "far range"}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_connection_that_cannot_go_on_is_closed(port: Port, case: str) -> None:
    client = await port.connect()
    client.send(REFUSED[case][0])
    if case == "half a head":
        client.end()
    _, head_, _ = await client.read_response()
    assert (b"connection: close" in head_.lower()) == (case not in KEEPS_OPEN)
    if case in KEEPS_OPEN:
        client.send(head(b"GET /version HTTP/1.1"))
        assert (await client.read_response())[0] == 200


SERVED = {
    "1.0": head(b"GET /version HTTP/1.0"),
    "1.2": head(b"GET /version HTTP/1.2"),
    "empty lines": b"\r\n\r\n" + head(b"GET /version HTTP/1.1"),
    "URL": b"GET http://x/version HTTP/1.1\r\nHost: y\r\n\r\n",
    "h2c": head(
        b"GET /version HTTP/1.1",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    ),
    "another upgrade": head(b"GET /version HTTP/1.1", b"Upgrade: TLS/1.0\r\n"),
    "range": head(b"GET /static/page.js HTTP/1.1", b"Range: bytes=0-3\r\n"),
    "task": upload(),
    "preamble": upload(body=b"preamble\r\n" + BODY + b"epilogue"),
    "chunks": head(b"POST /async-batch-caption HTTP/1.1", FORM, b"Transfer-Encoding: chunked\r\n")
    + b"%x;extension=1\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY), BODY),
    "expectation": upload(b"Expect: 100-continue\r\n"),
}


@pytest.mark.parametrize("case", SERVED)
async def test_what_http_allows_is_served(port: Port, case: str) -> None:
    """Each client ends its input, which must not cost it its answer."""
    answers = await port.exchange(SERVED[case])
    assert re.findall(rb"^HTTP/1.1 (2..)", answers, re.MULTILINE), answers
    await port.settle()


async def test_the_log_has_little_of_what_a_client_makes_up(port: Port) -> None:
    with capture_logs() as logs:
        await port.exchange(head(b"M" * 9000 + b" /" + b"p" * 9000 + b" HTTP/1.1"))
        await port.settle()
    (entry,) = logs
    assert len(str(entry)) < 1000


async def test_a_head_is_answered_without_a_body(port: Port) -> None:
    answer = await port.exchange(head(b"HEAD /version HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")
    answer = await port.exchange(
        head(b"HEAD /static/page.js HTTP/1.1", b"Range: bytes=9999999-\r\n")
    )
    assert answer.endswith(b"\r\n\r\n")


CHUNKED = b"Transfer-Encoding: chunked\r\n"


async def test_a_body_that_breaks_while_the_answer_waits_is_answered(
    store: Engine, port: Port
) -> None:
    """A GET may have a body, which nobody reads."""
    await add_task(store, "t", 1)
    client = await port.connect()
    client.send(head(b"GET /async-batch-caption/status/t?wait=60 HTTP/1.1", CHUNKED) + b"zz\r\n")
    await check_refusal(client, 400, "malformed_body")


@pytest.mark.parametrize("path", [b"/static/page.js", b"/async-batch-caption/results/t"])
async def test_a_body_that_breaks_while_the_answer_is_sent_is_no_fault_of_the_service(
    store: Engine, port: Port, path: bytes
) -> None:
    """The answer of either path is sent while somebody listens for a disconnect."""
    await add_task(store, "t", 1)
    with capture_logs() as logs:
        client = await port.connect()
        client.send(head(b"GET %s HTTP/1.1" % path, b"Range: bytes=0-5\r\n", CHUNKED) + b"zz\r\n")
        await client.rest()
        client.end()
        await port.settle()
    assert [entry["event"] for entry in logs] == ["client_gone"]


async def test_a_body_that_breaks_while_events_are_sent_ends_the_stream(
    store: Engine, port: Port
) -> None:
    await add_task(store, "t", 1)
    with capture_logs() as logs:
        client = await port.connect()
        client.send(head(b"GET /async-batch-caption/events/t HTTP/1.1", CHUNKED))
        async with asyncio.timeout(PATIENCE):
            await client.reader.readuntil(b"event: progress")
        client.send(b"zz\r\n")
        await client.rest()
        client.end()
        await port.settle()
    assert [entry["event"] for entry in logs] == ["client_gone"]


async def test_a_client_that_leaves_in_the_middle_has_one_entry(port: Port) -> None:
    with capture_logs() as logs:
        for cut in (1, 50, len(BODY) - 1):
            client = await port.connect()
            client.send(upload()[:-cut])
            client.writer.close()
        await port.settle()
    assert [entry["event"] for entry in logs] == ["client_gone"] * 3

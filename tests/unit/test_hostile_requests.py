"""Requests that no honest client sends get an answer that the table of operations lists."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from captiond.jobs import Captioned
from captiond.messages import Answer, Ask, AskMetrics, MetricsAnswer
from captiond.processes.channel import ChannelClosed
from captiond.recording import Measurements
from captiond.settings.config import ImageSettings, LimitSettings
from captiond.store.engine import Engine
from captiond.web.operation import ErrorForm, Operation
from captiond.web.operations import OPERATIONS
from tests.answers import BY_NAME, check, check_type, code_of, path_of
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
EDGE = {"Content-Type": "multipart/form-data; boundary=edge"}
REQUESTS = 250
SEED = 16


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    images, limits = ImageSettings(root=tmp_path), LimitSettings(files=3)
    async with web_process(store, tmp_path, images=images, limits=limits) as process:
        yield process


@asynccontextmanager
async def answering(web: WebProcess) -> AsyncIterator[None]:
    """Answer whatever the web process asks for."""

    async def answer() -> None:
        with suppress(ChannelClosed):
            while True:
                message = await web.channel.receive()
                if isinstance(message, AskMetrics):
                    web.channel.send(MetricsAnswer(message.number, Measurements()))
                if isinstance(message, Ask):
                    caption = Captioned("a cat", ("cat",), "m", 4, 3)
                    for number in range(len(message.images)):
                        web.channel.send(Answer(message.ticket + number, caption))

    task = asyncio.create_task(answer())
    try:
        yield
    finally:
        task.cancel()


def part(name: bytes, filename: bytes | None, content: bytes) -> bytes:
    file = b'; filename="' + filename + b'"' if filename is not None else b""
    head = b'--edge\r\nContent-Disposition: form-data; name="' + name + b'"' + file
    return head + b"\r\n\r\n" + content + b"\r\n"


# ---------------------------------------------------------------- file names

NAMES = [
    (b"../../etc/passwd", "../../etc/passwd"),
    (b"/etc/passwd", "/etc/passwd"),
    (b"a\0b.png", "a\0b.png"),
    (b"a" * 10_000, "a" * 255),
    ("\U0001f408".encode() * 10_000, "\U0001f408" * 255),
    (b"\xff\xfe\xed\xa0\x80.png", "\xff\xfe\xed\xa0\x80.png"),
    (b"a\x1b[31m\x07\x7f\t.png", "a\x1b[31m\x07\x7f\t.png"),
    ("\u202e\u2028gnp.a".encode(), "\u202e\u2028gnp.a"),
    (b"<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png"),
    (b"", ""),
]
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@pytest.mark.parametrize(("sent", "shown"), NAMES)
async def test_a_file_name_is_only_shown(web: WebProcess, sent: bytes, shown: str) -> None:
    body = part(b"images", sent, PNG) + part(b"images", sent, b"no") + b"--edge--\r\n"
    with capture_logs() as logs:
        path = "/async-batch-caption"
        accepted = await web.client.post(path, content=body, headers=EDGE)
        assert accepted.status_code == 202, accepted.text
        task = f"{path}/{accepted.json()['task_id']}"
        (file,) = web.spool.iterdir()
        assert re.fullmatch(r"web0-[0-9a-f]{32}", file.name)
        cancelled = await web.client.delete(task)
    (result,) = cancelled.json()["result"]
    assert result["image_path"] == shown
    assert not CONTROL.search(cancelled.content.replace(b"\x7f", b"")), "escaped as JSON has it"
    assert cancelled.headers["content-type"] == "application/json"
    assert not shown.strip() or shown not in str(logs)


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("caption", part(b"image", b"a", PNG) * 2 + b"--edge--", 422, "too_many_files"),
        ("caption", part(b"f", None, b"x") * 10_000 + b"--edge--", 400, "malformed_body"),
        ("caption", part(b"f", b"f", b"x") * 10_000 + b"--edge--", 400, "malformed_body"),
        ("caption", part(b"image", None, PNG) + b"--edge--", 422, "invalid_request"),
        ("caption", part(b"image", b"a", PNG), 400, "malformed_body"),
        ("caption", part(b"image", b"a" * 60_000, PNG) + b"--edge--", 400, "malformed_body"),
        ("batch_caption", part(b"images", b"", b"") * 10_000, 422, "too_many_files"),
        ("caption", part(b"prompt", None, b"x" * 20_000) + b"--edge--", 400, "malformed_body"),
        ("caption", part(b"prompt", b"p", b"x" * 20_000) + b"--edge--", 400, "malformed_body"),
        ("caption", part(b"image", None, b"x" * 20_000) + b"--edge--", 422, "invalid_request"),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused(
    web: WebProcess, name: str, body: bytes, status: int, code: str
) -> None:
    response = await web.client.post(BY_NAME[name].path, content=body, headers=EDGE)
    assert (response.status_code, response.json()["code"]) == (status, code)
    check(BY_NAME[name], response)
    assert list(web.spool.iterdir()) == []


# ---------------------------------------------------------------- ids


@pytest.mark.only_on("sqlite", "postgresql")
@pytest.mark.parametrize("id_", ["t%00", "%ff", "%ed%a0%80", "%F0%9F%90%88", "a" * 5000, "'"])
async def test_an_id_that_no_row_can_have_is_not_found(web: WebProcess, id_: str) -> None:
    """PostgreSQL refuses statements with some characters that SQLite takes."""
    named = [each for each in OPERATIONS if "_id}" in each.path]
    assert len(named) == 7
    for operation in named:
        path = operation.path.replace("{task_id}", id_).replace("{import_id}", id_)
        response = await web.client.request(operation.method, path)
        assert response.status_code == 404, (path, response.text)
        check(operation, response)


# ---------------------------------------------------------------- anything

METHODS = ("GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS", "PATCH", "BREW")
WORDS = (
    "", " ", "a", "0", "-1", "1e1", "nan", "9" * 5000, "\u0661", "\0", "../..", "%2e%2e%2f",
    "*" * 300, "\u202e", "\ufffd", "true", "[]", "{}", "<script>", "http://127.0.0.1/", "task_1_0",
    "en", "noun", "--edge", "\r\n", "'; DROP TABLE tasks; --", "\U0001f600" * 200,
)  # fmt: skip
HEADERS = (
    "Idempotency-Key", "X-Request-ID", "If-None-Match", "Accept", "Authorization",
    "Cookie", "X-API-Key", "Forwarded", "X-Forwarded-For", "Expect", "Last-Event-ID",
)  # fmt: skip
FIELDS = (
    "image", "images", "path", "prompt", "num_beams", "max_new_tokens", "min_new_tokens",
    "repetition_penalty", "num_captions", "language", "tag_kinds", "tag_categories", "tag_deny",
    "tag_allow", "tag_min_length", "tag_max_number", "no_cache", "callback_url", "__proto__", "",
)  # fmt: skip
TYPES = (
    "multipart/form-data; boundary=edge", "multipart/form-data; boundary=edge", "application/json",
    "multipart/form-data", 'multipart/form-data; boundary=""',
    "multipart/form-data; boundary=other", "application/x-www-form-urlencoded",
    "image/png", "", "\xff", "a" * 5000,
)  # fmt: skip


def hostile_requests(rng: random.Random) -> Iterator[tuple[Operation | None, httpx.Request]]:
    """Yield requests and the operations that they are for; None if their path has none."""
    for _ in range(REQUESTS):
        operation = rng.choice(OPERATIONS) if rng.random() < 0.9 else None
        word = rng.choice(WORDS).replace("/", "%2f")  # httpx resolves a path with ..
        path = f"/nowhere{word}"
        if operation is not None:
            path = path_of(operation, task_id=word, model=word)
        headers = [(name, header_value(rng)) for name in rng.sample(HEADERS, rng.randrange(4))]
        headers.append(("Content-Type", rng.choice(TYPES)))
        url = httpx.URL("http://test").copy_with(raw_path=quoted(path))
        raw = [(name.encode(), value.encode("utf-8")) for name, value in headers]
        method = rng.choice(METHODS)
        if operation is not None and rng.random() < 0.7:
            method = operation.method
        yield operation, httpx.Request(method, url, headers=raw, content=hostile_body(rng))


def header_value(rng: random.Random) -> str:
    return re.sub(r"[\0\r\n]", "", rng.choice(WORDS))


def quoted(path: str) -> bytes:
    """Return a path in which only what no URL can have is quoted."""
    return re.sub(rb"[\x00-\x20\x7f-\xff?#]", lambda m: b"%%%02x" % m[0][0], path.encode())


def hostile_body(rng: random.Random) -> bytes:
    body = b""
    for _ in range(rng.randrange(6)):
        name, word = rng.choice(FIELDS).encode(), rng.choice(WORDS).encode()
        if rng.random() < 0.5:
            body += part(name, rng.choice((b"a.png", word)), rng.choice((PNG, PNG, word)))
        else:
            body += part(name, None, word)
    body += rng.choice((b"--edge--\r\n", b"--edge--\r\n", b"--edge--\r\n", b"", b"--edge"))
    if rng.random() < 0.2 and body:
        at = rng.randrange(len(body))
        body = body[:at] + rng.randbytes(rng.randrange(4)) + body[at + rng.randrange(4) :]
    return body


def code_without_operation(operation: Operation, response: httpx.Response) -> bool:
    """Return whether a request has no operation after all: by its method, or its changed path."""
    codes = {"not_found", "method_not_allowed"}
    return response.is_client_error and code_of(operation, response) in codes


async def test_any_request_has_an_answer_that_the_table_lists(web: WebProcess) -> None:
    answered = 0
    async with answering(web):
        for operation, request in hostile_requests(random.Random(SEED)):
            response = await web.client.send(request)
            where = f"{request.method} {request.url!r} {dict(request.headers)} {request.content!r}"
            assert response.status_code < 500, where
            assert "x-request-id" in response.headers, where
            if request.method == "HEAD":
                continue
            if operation is None or code_without_operation(operation, response):
                form = ErrorForm() if operation is None else operation.error_form
                check_type(form.schema, response)
            elif response.status_code != 307:
                own = next(o for o in OPERATIONS if o.path == operation.path)
                check(own, response)
                answered += response.status_code < 300
    assert answered > REQUESTS / 10, "most requests are refused, but not all"

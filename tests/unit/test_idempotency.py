"""Requests with the Idempotency-Key of an earlier one: which of them count as the same request."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from captiond.settings.config import LimitSettings
from captiond.store.engine import Engine
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
LIMIT = 20_000
FORM = "multipart/form-data; boundary=b"
# Two contents of files that are refused for the same reason.
NO_IMAGES = b"A text.", b"Another."
TOO_LARGE = PNG + bytes(3 * LIMIT), PNG + bytes(3 * LIMIT - 1) + b"x"
URLS = "https://a.example.com/1.png", "https://a.example.com/2.png"
NO_BASE64 = "iVBOR!", "iVBOR?"
LATE = "A" * 200_000 + "!", "B" + "A" * 199_999 + "!"


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path, limits=LimitSettings(file_bytes=LIMIT)) as process:
        yield process


def form(content: bytes) -> bytes:
    """A form with an image, and with a file of this content."""
    head = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    return head + PNG + b"\r\n" + head + content + b"\r\n--b--\r\n"


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def send(web: WebProcess, key: str, kind: str, body: bytes, piece: int) -> str:
    """Send a body in pieces of this size. Return the id of the task, or the code of an error."""
    headers = {"Idempotency-Key": key, "Content-Type": kind}
    sent = await web.client.post(
        "/async-batch-caption", content=in_pieces(body, piece), headers=headers
    )
    return str(sent.json().get("task_id") or sent.json()["code"])


async def check_told_apart(web: WebProcess, kind: str, one: bytes, other: bytes) -> None:
    first = await send(web, "k", kind, one, len(one))
    assert first.startswith("task_")
    for piece in (len(one), 4097, 777):
        assert await send(web, "k", kind, one, piece) == first
        assert await send(web, "k", kind, other, piece) == "idempotency_key_reused"
    assert await send(web, "l", kind, other, len(other)) not in {first, "idempotency_key_reused"}


@pytest.mark.parametrize(("one", "other"), [NO_IMAGES, TOO_LARGE], ids=["no image", "too large"])
async def test_files_that_are_refused_are_told_apart(
    web: WebProcess, one: bytes, other: bytes
) -> None:
    await check_told_apart(web, FORM, form(one), form(other))


@pytest.mark.parametrize(
    ("one", "other"), [URLS, NO_BASE64, LATE], ids=["URLs", "no base64", "late"]
)
async def test_texts_that_are_refused_are_told_apart(web: WebProcess, one: str, other: str) -> None:
    bodies = [b'{"images": ["%s"]}' % text.encode() for text in (one, other)]
    await check_told_apart(web, "application/json", *bodies)

"""Half of a surrogate pair, which JSON can write and UTF-8 cannot: it must not get into a result.

A result, an event, a file or a log entry that had it could not be encoded.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from captiond.jobs import Captioned
from captiond.messages import Answer, Ask
from captiond.settings.client_settings import ClientSettings
from captiond.settings.config import ImageSettings
from captiond.store.engine import Engine
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
JSON = {"Content-Type": "application/json"}
IMAGE = base64.b64encode(PNG).decode()
HALF = r"\ud800"
BODIES = {
    "/caption": (
        f'{{"image": "{IMAGE}", "filename": "{HALF}.png"}}',
        f'{{"image": "{IMAGE}", "prompt": "a {HALF}"}}',
        f'{{"image": "{IMAGE}", "tag_deny": ["{HALF}"]}}',
        f'{{"image": "{IMAGE}", "{HALF}": 1}}',
        f'{{"image": "{IMAGE}", "x": {{"{HALF}": 1, "{HALF}": 1}}}}',
        f'{{"image": "{HALF}"}}',
        f'{{"path": "{HALF}.png"}}',
    ),
    "/batch-caption": (f'{{"images": ["{IMAGE}", {{"image": "{IMAGE}", "filename": "{HALF}"}}]}}',),
    "/async-batch-caption": (
        rf'{{"images": [{{"image": "{IMAGE}", "filename": "\uDFFF"}}]}}',
        f'{{"images": ["{IMAGE}"], "callback_url": "https://example.org/{HALF}"}}',
    ),
    "/v1/chat/completions": (
        f'{{"model": "{HALF}", "messages": []}}',
        f'{{"messages": [{{"role": "user", "content": "{HALF}"}}]}}',
    ),
    "/v1/responses": (f'{{"input": [{{"role": "user", "content": "{HALF}"}}]}}',),
    "/api/generate": (f'{{"model": "captiond", "prompt": "{HALF}", "images": ["{IMAGE}"]}}',),
    "/api/chat": (f'{{"messages": [{{"role": "user", "content": "{HALF}"}}]}}',),
    "/api/show": (f'{{"model": "{HALF}"}}',),
}


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    images = ImageSettings(root=tmp_path)
    clients = ClientSettings(lists="all")
    async with web_process(store, tmp_path, images=images, clients=clients) as process:
        yield process


@pytest.mark.parametrize("path", BODIES)
async def test_half_a_pair_is_refused_wherever_it_is(web: WebProcess, path: str) -> None:
    for body in BODIES[path]:
        response = await web.client.post(path, content=body, headers=JSON)
        assert response.status_code == 400, body
        assert "\ufffd" not in response.content.decode()


async def caption(
    web: WebProcess, body: bytes, headers: dict[str, str]
) -> tuple[Ask, dict[str, object]]:
    """Caption an image. Return what the model process was asked for, and the result."""
    sending = asyncio.create_task(web.client.post("/caption", content=body, headers=headers))
    ask: Ask = await web.message(Ask)
    web.channel.send(Answer(ask.ticket, Captioned("a cat", (), "m", 4, 3)))
    response = await sending
    assert response.status_code == 200, response.text
    result: dict[str, object] = response.json()
    return ask, result


async def test_a_whole_pair_is_a_character(web: WebProcess) -> None:
    body = rf'{{"image": "{IMAGE}", "filename": "\ud83d\ude00.png"}}'
    _, result = await caption(web, body.encode(), JSON)
    assert result["filename"] == "\U0001f600.png"


async def test_half_a_pair_in_a_form_is_read_as_other_characters(web: WebProcess) -> None:
    """Forms have bytes. A text that is not UTF-8 is read as ISO 8859-1."""
    half, form = b"\xed\xa0\x80", b"--b\r\nContent-Disposition: form-data; name="
    parts = (
        form + b'"image"; filename="' + half + b'.png"\r\n\r\n' + PNG + b"\r\n",
        form + b'"prompt"\r\n\r\na ' + half + b" cat\r\n--b--\r\n",
    )
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    ask, result = await caption(web, b"".join(parts), kind)
    others = half.decode("latin-1")
    assert result["filename"] == f"{others}.png"
    assert ask.options.generation is not None
    assert ask.options.generation.prompt == f"a {others} cat"


@pytest.mark.parametrize("query", ["status=%ED%A0%80", "cursor=%ED%A0%80", "limit=%ED%A0%80"])
async def test_half_a_pair_in_a_query_is_refused(web: WebProcess, query: str) -> None:
    response = await web.client.get(f"/tasks?{query}")
    assert response.status_code == 422
    response.content.decode()


async def test_no_task_has_half_a_pair_in_its_id(web: WebProcess) -> None:
    for call in ("status", "events", "results"):
        response = await web.client.get(f"/async-batch-caption/{call}/%ED%A0%80")
        assert response.status_code == 404

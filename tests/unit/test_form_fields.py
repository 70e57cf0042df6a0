"""Fields of forms: options as files, fields of other clients, and empty ones."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from captiond.jobs import Captioned, Options
from captiond.messages import Answer, Ask
from captiond.settings.config import LimitSettings, WebhookSettings
from captiond.store.engine import Engine
from captiond.web.async_tasks.callback_url import callback_url_of
from captiond.web.problems import InvalidRequest
from captiond.web.uploading.forms import Form
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", (), "m", 4, 3)


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path, limits=LimitSettings(file_bytes=2000)) as process:
        yield process
        assert await asyncio.to_thread(lambda: [*process.spool.iterdir()]) == []


async def captioned(web: WebProcess, *fields: tuple[str, tuple[str | None, bytes]]) -> Ask:
    """Post an image and further fields to /caption. Return what was asked for."""
    files = [("image", ("cat.png", PNG)), *fields]
    sending = asyncio.create_task(web.client.post("/caption", files=files))
    ask: Ask = await web.message(Ask)
    web.channel.send(Answer(ask.ticket, CAPTION))
    assert (await sending).status_code == 200
    return ask


async def test_an_option_may_come_as_a_file(web: WebProcess) -> None:
    """curl -F vocabulary=@tags.txt, and a Blob of a browser."""
    ask = await captioned(
        web,
        ("vocabulary", ("tags.txt", b"\xef\xbb\xbfcat,dog")),  # a file of Notepad
        ("num_beams", ("blob", b"3")),
    )
    assert ask.options.generation is not None
    assert ask.options.generation.vocabulary == ("cat", "dog")
    assert ask.options.generation.num_beams == 3


async def test_fields_of_others_may_be_many_and_long(web: WebProcess) -> None:
    """They were ignored by the service that captiond replaces."""
    many = [("ids", (None, b"7")) for _ in range(300)]
    ask = await captioned(web, ("metadata", (None, b"{" * 40_000)), *many)
    assert ask.options == Options(origin=ask.options.origin)


def test_an_empty_callback_url_counts_as_absent() -> None:
    form = Form(fields={"callback_url": " "})
    assert callback_url_of(form, WebhookSettings()) is None
    with pytest.raises(InvalidRequest):
        callback_url_of(Form(fields={"callback_url": ""}, document={}), WebhookSettings())


@pytest.mark.parametrize("json_body", [False, True])
async def test_an_option_in_the_url_is_refused(web: WebProcess, *, json_body: bool) -> None:
    body: dict[str, Any] = (
        {"json": {"image": b64encode(PNG).decode()}}
        if json_body
        else {"files": {"image": ("cat.png", PNG)}}
    )
    response = await web.client.post("/caption?num_beams=3&_=17", **body)
    (problem,) = response.json()["detail"]
    assert (response.status_code, problem["loc"]) == (422, ["query", "num_beams"])
    assert problem["msg"].endswith("send it in the body, not in the URL")

"""What a web process asks the supervisor for one request with images, and how it is answered."""

import asyncio
import errno
import os
from pathlib import Path

import httpx
import pytest

from captiond.clients import Client
from captiond.errors import QueueFull
from captiond.jobs import Captioned, Refused
from captiond.messages import Answer, Ask, Drop
from captiond.settings.config import LimitSettings
from captiond.spool.staging import StagedWriter
from captiond.store.engine import Engine
from captiond.web.app import make_app
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", (), "m", 4, 3)
IMAGES = [("images", (f"{number}.png", PNG + bytes([number]))) for number in range(3)]


def from_address(web: WebProcess, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(web.services), client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_all_images_of_a_request_are_asked_for_at_once_and_for_its_client(
    store: Engine, tmp_path: Path
) -> None:
    async with web_process(store, tmp_path) as web, from_address(web, "10.1.2.3") as client:
        files = [*IMAGES[:2], ("images", ("bad.png", b"no image")), IMAGES[2]]
        sending = asyncio.create_task(client.post("/batch-caption", files=files))
        ask: Ask = await web.message(Ask)
        assert (len(ask.images), ask.client) == (3, Client("address:10.1.2.3"))
        for ticket in (2, 0, 1):  # in any order
            caption = Captioned(f"caption {ticket}", (), "m", 4, 3)
            web.channel.send(Answer(ask.ticket + ticket, caption))
        results = (await sending).json()["results"]
    assert [result["caption"] for result in results] == [
        "caption 0",
        "caption 1",
        None,
        "caption 2",
    ]


async def test_a_request_that_the_queue_does_not_take_is_answered_503(
    store: Engine, tmp_path: Path
) -> None:
    """It is not a success whose images have errors."""
    async with web_process(store, tmp_path) as web:
        sending = asyncio.create_task(web.client.post("/batch-caption", files=IMAGES))
        ask: Ask = await web.message(Ask)
        for ticket in range(3):
            web.channel.send(Answer(ask.ticket + ticket, Refused.of(QueueFull("full"))))
        response = await sending
    assert (response.status_code, response.json()["code"]) == (503, "queue_full")
    assert int(response.headers["Retry-After"]) > 0


async def test_images_that_take_too_long_are_dropped_and_the_others_are_answered(
    store: Engine, tmp_path: Path
) -> None:
    limits = LimitSettings(request_seconds=0.5)
    async with web_process(store, tmp_path, limits=limits) as web:
        sending = asyncio.create_task(web.client.post("/batch-caption", files=IMAGES))
        ask: Ask = await web.message(Ask)
        web.channel.send(Answer(ask.ticket + 1, CAPTION))
        drop: Drop = await web.message(Drop)
        results = (await sending).json()["results"]
    assert drop.tickets == (ask.ticket, ask.ticket + 2)
    assert [result.get("code") for result in results] == [
        "request_timeout",
        None,
        "request_timeout",
    ]
    assert results[1]["caption"] == "a cat"


async def test_a_disk_that_times_out_is_no_slow_client(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is in the network may do so. Its error looks like that of a deadline."""

    def time_out(_: StagedWriter) -> None:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    monkeypatch.setattr(StagedWriter, "_finish", time_out)
    async with web_process(store, tmp_path) as web:
        response = await web.client.post("/batch-caption", files=IMAGES)
    assert (response.status_code, response.json()["code"]) == (500, "storage_failed")

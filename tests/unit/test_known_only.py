"""Requests while the model is being loaded: known images are answered, all others are 503."""

import asyncio
from pathlib import Path

import httpx
import pytest

from captiond.errors import ModelNotReady
from captiond.jobs import Captioned, Outcome, Refused
from captiond.messages import Answer, Ask, State
from captiond.store.engine import Engine
from tests.unit.webprocess import HEALTHY, PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
LOADING = State(cache=True)
KNOWN = Captioned("a cat", (), "m", 4, 3, cached=True)
UNKNOWN = Refused.of(ModelNotReady(("the model is being loaded",)))


async def posted(
    web: WebProcess, path: str, outcomes: list[Outcome]
) -> tuple[bool, httpx.Response]:
    """Send a file for each outcome; return whether known ones were asked for, and the response."""
    field = "image" if len(outcomes) == 1 else "images"
    files = [(field, ("a.png", PNG + bytes([number]))) for number in range(len(outcomes))]
    sending = asyncio.create_task(web.client.post(path, files=files))
    ask: Ask = await web.message(Ask)
    assert len(ask.images) == len(outcomes)
    for ticket, outcome in enumerate(outcomes, ask.ticket):
        web.channel.send(Answer(ticket, outcome))
    return ask.known_only, await sending


async def test_a_known_image_is_answered(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path, state=LOADING) as web:
        asked, response = await posted(web, "/caption", [KNOWN])
    assert asked
    assert (response.status_code, response.json()["caption"]) == (200, "a cat")


@pytest.mark.parametrize(
    ("path", "outcomes"),
    [
        ("/caption", [UNKNOWN]),
        ("/batch-caption", [KNOWN, UNKNOWN]),
    ],
)
async def test_an_unknown_image_is_answered_as_without_a_model(
    store: Engine, tmp_path: Path, path: str, outcomes: list[Outcome]
) -> None:
    async with web_process(store, tmp_path, state=LOADING) as web:
        asked, response = await posted(web, path, outcomes)
        await web.set_state(State())
        without = await web.client.post(path, files={"image": ("a.png", PNG)})
    assert asked
    assert response.status_code == without.status_code == 503
    assert response.headers["Retry-After"] == without.headers["Retry-After"]
    same = {"detail", "code", "reasons"}
    assert {key: response.json()[key] for key in same} == {key: without.json()[key] for key in same}


async def test_a_ready_model_is_asked_for_new_captions(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path, state=HEALTHY) as web:
        asked, response = await posted(web, "/batch-caption", [KNOWN, KNOWN])
    assert not asked
    assert response.status_code == 200


async def test_probes_do_not_change(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path, state=LOADING) as web:
        health = await web.client.get("/health")
        ready = await web.client.get("/readyz")
    assert (health.status_code, health.json()["status"]) == (503, "starting")
    assert ready.status_code == 503

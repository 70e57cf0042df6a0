"""The place of a waiting task: as the turns are given, cheap, and gone once the task is started."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captiond.clients import Client
from captiond.store import claims
from captiond.store.engine import Engine
from captiond.web.async_tasks import queue_place
from captiond.web.async_tasks.queue_place import two_digits
from tests.answers import BY_NAME, check
from tests.unit.filling import add_task, run_task
from tests.unit.webprocess import HEALTHY, WebProcess, web_process

pytestmark = pytest.mark.anyio


@pytest.fixture
async def web(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WebProcess]:
    monkeypatch.setattr(queue_place, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr("captiond.web.async_tasks.task_queue.COUNT_SECONDS", 0.0)
    monkeypatch.setattr("captiond.web.async_tasks.task_queue.PAUSE", 0)
    async with web_process(store, tmp_path) as process:
        yield process


async def status(web: WebProcess, task_id: str) -> dict[str, Any]:
    response = await web.client.get(f"/async-batch-caption/status/{task_id}")
    check(BY_NAME["task_status"], response)
    body: dict[str, Any] = response.json()
    return body


async def test_a_task_that_waits_alone_is_next(web: WebProcess, store: Engine) -> None:
    await add_task(store, "t", 30)
    waits = await status(web, "t")
    assert waits["queue_position"] == 0
    assert "eta_seconds" not in waits  # it is not known how fast images are finished
    await web.set_state(replace(HEALTHY, bulk_rate=2.0))
    assert (await status(web, "t"))["eta_seconds"] == 15
    await run_task(store, 1)
    runs = await status(web, "t")
    assert runs["status"] == "PROCESSING"
    assert not {"queue_position", "eta_seconds"} & set(runs)


async def test_the_place_is_that_of_the_turns(web: WebProcess, store: Engine) -> None:
    """Its first image comes about as early as the place says, although a large task is ahead."""
    one, two = Client("key:one"), Client("key:two", 3.0)
    await add_task(store, "large", 500, client=one)
    await run_task(store, 40)
    await add_task(store, "other", 200, client=two)
    await add_task(store, "last", 20, client=one, created_at=2.0)
    await web.set_state(replace(HEALTHY, bulk_rate=10.0))
    place = await status(web, "last")
    order = [
        claim.task_id for claim in (await claims.claim(store, 60, owner="n/m", now=3.0)).claims
    ]
    assert abs(order.index("last") - place["queue_position"]) <= 4
    # Of eight images, three fourths are the other client's, and half of the rest the large task's.
    assert 14 <= place["eta_seconds"] <= 17


async def test_the_estimate_is_never_more_than_all_there_is(web: WebProcess, store: Engine) -> None:
    for number in range(20):
        await add_task(store, f"t{number}", 2, client=Client(f"address:10.0.0.{number}"))
    await web.set_state(replace(HEALTHY, bulk_rate=1.0))
    for number in range(20):
        place = await status(web, f"t{number}")
        assert 0 <= place["queue_position"] <= 38
        assert 2 <= place["eta_seconds"] <= 40


async def test_the_entity_tag_follows_the_place(web: WebProcess, store: Engine) -> None:
    """A client that polls with it gets the new place. The revision is still at the beginning."""
    await add_task(store, "t", 5)
    path = "/async-batch-caption/status/t"
    known = {"If-None-Match": (await web.client.get(path)).headers["etag"]}
    assert (await web.client.get(path, headers=known)).status_code == 304
    await web.set_state(replace(HEALTHY, bulk_rate=1.0))
    changed = await web.client.get(path, headers=known)
    assert (changed.status_code, changed.json()["eta_seconds"]) == (200, 5)
    part = await web.client.get(f"{path}?limit=1")
    assert part.json()["eta_seconds"] == 5


@pytest.mark.parametrize(
    ("number", "rounded"), [(0, 0), (7, 7), (99, 99), (104, 100), (1251, 1300), (99_999, 100_000)]
)
def test_an_estimate_has_two_digits(number: int, rounded: int) -> None:
    assert two_digits(number) == rounded

"""The events of a task: each result exactly once, from wherever a client goes on, and an end."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from sqlalchemy import event, text
from starlette.types import ASGIApp

from captiond.messages import Drain, TasksChanged
from captiond.store import queueview, tasks
from captiond.store.engine import Engine, writing
from captiond.store.history import START, Place
from captiond.store.snapshots import read_state
from captiond.web.app import make_app
from captiond.web.async_tasks import event_stream
from captiond.web.async_tasks.event_log import PART_BYTES, RESULTS, EventLog
from captiond.web.task_schemas import ImageEvent, ProgressEvent, ReconnectEvent, TaskItem
from tests.answers import BY_NAME, check
from tests.unit.filling import RETRYABLE, add_task, run_task
from tests.unit.openrequest import OpenRequest, open_request
from tests.unit.webprocess import WebProcess, web_process

pytestmark = pytest.mark.anyio
EVENTS = "/async-batch-caption/events/t"
EVENT = re.compile(rb"event: (\w+)\n(?:id: (\S+)\n)?data: (.*)\n\n")
TYPES: dict[str, TypeAdapter[Any]] = {
    "image": TypeAdapter(ImageEvent),
    "progress": TypeAdapter(ProgressEvent),
    "end": TypeAdapter(TaskItem),
    "reconnect": TypeAdapter(ReconnectEvent),
}


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path) as process:
        yield process


@pytest.fixture
def app(web: WebProcess) -> ASGIApp:
    return make_app(web.services)


def events(body: bytes) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return the name, the id and the data of each event of a stream, whose form is checked."""
    assert body.startswith(b"retry: 3000\n\n")
    rest = EVENT.sub(b"", body.removeprefix(b"retry: 3000\n\n"))
    assert rest.replace(event_stream.HEARTBEAT, b"") == b""
    found = []
    for name, event_id, data in EVENT.findall(body):
        read = json.loads(data)
        assert TYPES[name.decode()].validate_json(data, strict=True) == read
        found.append((name.decode(), event_id.decode() or None, read))
    return found


def positions(body: bytes) -> list[int]:
    return [data["position"] for name, _, data in events(body) if name == "image"]


async def whole(app: ASGIApp, last: str | None = None) -> bytes:
    """Return the events of a finished task that follow the last one."""
    async with open_request(app, EVENTS, {"Last-Event-ID": last} if last else {}) as request:
        assert await request.answered() == 200
    return request.body


async def test_each_result_arrives_as_it_is_stored(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    await add_task(store, "t", 4, refused=[2])
    async with open_request(app, EVENTS) as request:
        await request.has(b"event: progress")
        assert request.headers["content-type"] == "text/event-stream"
        for number in range(2, 5):
            await run_task(store, 1)
            web.channel.send(TasksChanged(("t",)))
            await request.has(b"event: image", number)
        assert await request.answered() == 200
    seen = events(request.body)
    assert [name for name, *_ in seen][-1] == "end"
    assert positions(request.body) == [2, 0, 1, 3]
    assert seen[0][2]["code"] == "not_an_image"
    end = seen[-1][2]
    assert (end["status"], end["progress"]) == ("COMPLETED", {"total": 4, "done": 4, "failed": 1})
    status = await web.client.get("/async-batch-caption/status/t")
    by_position = {data.pop("position"): data for name, _, data in seen if name == "image"}
    assert [by_position[n] for n in range(4)] == status.json()["result"]


@pytest.mark.parametrize("images", [3, RESULTS, 2 * RESULTS + 1])
async def test_a_client_goes_on_after_any_event(app: ASGIApp, store: Engine, images: int) -> None:
    await add_task(store, "t", images, refused=[images // 2])
    while (await queueview.backlog(store)).images:
        await run_task(store, 7)
    body = await whole(app)
    seen = events(body)
    known = positions(body)
    assert sorted(known) == [*range(images)]
    for number in {0, 1, images // 2, images - 2, images - 1}:
        assert positions(await whole(app, seen[number][1])) == known[number + 1 :]
    async with open_request(app, EVENTS, {"Last-Event-ID": str(seen[-1][1])}) as request:
        assert await request.answered() == 204  # a browser stops to reconnect


async def test_a_client_may_ask_for_the_events_so_far(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    """They need no waiting place, and go on from call to call."""
    await add_task(store, "t", RESULTS + 3)
    seen: list[int] = []
    last: str | None = None
    for _ in range(3):
        headers = {"Last-Event-ID": last} if last else {}
        response = await web.client.get(f"{EVENTS}?follow=false", headers=headers)
        assert response.status_code == 200
        found = events(response.content)
        seen += positions(response.content)
        assert found[-1][0] == "progress" or len(seen) == RESULTS + 3
        last = next((each for _, each, _ in reversed(found) if each), last)
        await run_task(store, RESULTS // 2 + 2)
    assert found[-1][0] == "end"
    assert seen == [*range(RESULTS + 3)]
    assert web.services.watch.waiters == 0
    response = await web.client.get(f"{EVENTS}?follow=no")
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["query", "follow"])


async def test_the_events_so_far_are_sent_while_too_many_wait(
    store: Engine, web: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_task(store, "t", 1)
    monkeypatch.setattr(web.services.watch, "_most", 0)
    assert (await web.client.get(EVENTS)).json()["code"] == "too_many_waiting"
    response = await web.client.get(f"{EVENTS}?follow=false")
    assert [name for name, *_ in events(response.content)] == ["progress"]


async def test_a_retry_sends_new_results_and_a_new_end(app: ASGIApp, store: Engine) -> None:
    await add_task(store, "t", 2)
    await run_task(store, 1)
    await run_task(store, 1, RETRYABLE)
    before = events(await whole(app))
    await tasks.retry(store, "t")
    await run_task(store, 1)
    after = events(await whole(app, before[-1][1]))
    assert [name for name, *_ in after] == ["image", "end"]
    assert (after[0][2]["position"], after[0][2]["error"]) == (1, None)
    assert positions(await whole(app)) == [0, 1]  # not the result that the retry has replaced


async def test_events_are_read_once_and_shared(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    statements: list[str] = []
    await add_task(store, "t", 3 * RESULTS)
    await run_task(store, 3 * RESULTS)
    event.listen(
        store.sql.sync_engine, "before_cursor_execute", lambda *all: statements.append(all[2])
    )
    requests = [OpenRequest(app, EVENTS, {}, "GET") for _ in range(20)]
    for request in requests:
        assert await request.answered() == 200
    assert {request.body for request in requests} == {requests[0].body}
    assert positions(requests[0].body) == [*range(3 * RESULTS)]
    assert len([each for each in statements if "images.result" in each]) <= 6


async def test_the_memory_of_shared_events_is_bounded(store: Engine) -> None:
    await add_task(store, "t", 4 * RESULTS)
    await run_task(store, 4 * RESULTS)
    log = EventLog(store, max_bytes=1)
    state = await read_state(store, "t")
    assert state is not None
    place, parts = START, []
    while (part := await log.after(state, place)).data:
        place = part.last
        parts.append(part)
        assert log.size == part.size
    assert len(parts) == 4


async def test_places_after_which_nothing_follows_take_bounded_memory(store: Engine) -> None:
    """A client can ask for what follows any place."""
    await add_task(store, "t", 1)
    await run_task(store, 1)
    log = EventLog(store, max_bytes=5 * PART_BYTES)
    state = await read_state(store, "t")
    assert state is not None
    for position in range(1, 20):
        assert not (await log.after(state, Place(state.revision, position))).data
        assert log.size == min(position, 5) * PART_BYTES


async def test_a_stop_ends_the_stream_and_says_so(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    await add_task(store, "t", 2)
    await run_task(store, 1)
    async with open_request(app, EVENTS) as request:
        await request.has(b"event: progress")
        web.channel.send(Drain())
        assert await request.answered() == 200
        assert request.ended
    assert [name for name, *_ in events(request.body)] == ["image", "progress", "reconnect"]
    refused = await web.client.get(EVENTS)
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    check(BY_NAME["task_events"], refused)


async def test_a_deleted_task_ends_the_stream(web: WebProcess, app: ASGIApp, store: Engine) -> None:
    await add_task(store, "t", 1)
    async with open_request(app, EVENTS) as request:
        await request.has(b"event: progress")
        async with writing(store) as connection:
            await connection.execute(text("DELETE FROM tasks"))
        web.channel.send(TasksChanged(("t",)))
        assert await request.answered() == 200
    assert events(request.body)[-1][0] == "reconnect"


async def test_a_quiet_stream_has_heartbeats(
    app: ASGIApp, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.01)
    await add_task(store, "t", 1)
    async with open_request(app, EVENTS) as request:
        await request.has(b": still there\n\n", 3)
        await request.leave()
    events(request.body)


async def test_a_client_that_leaves_is_dropped(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    await add_task(store, "t", 1)
    async with open_request(app, EVENTS) as request:
        await request.has(b"event: progress")
        assert web.services.watch.waiters == 1
        await request.leave()
        assert web.services.watch.waiters == 0


async def test_a_head_request_has_no_events(app: ASGIApp, store: Engine) -> None:
    await add_task(store, "t", 1)
    async with open_request(app, EVENTS, method="HEAD") as request:
        assert await request.answered() == 200
    assert (request.body, request.headers["content-type"]) == (b"", "text/event-stream")


@pytest.mark.parametrize("last", ["x", "1", "1-", "-1-1", "1-x", "9" * 30 + "-1", "1-2-3", "1 -2"])
async def test_an_id_that_is_none_is_refused(web: WebProcess, store: Engine, last: str) -> None:
    await add_task(store, "t", 1)
    response = await web.client.get(EVENTS, headers={"Last-Event-ID": last})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    check(BY_NAME["task_events"], response)


async def test_an_id_from_the_future_begins_anew(app: ASGIApp, store: Engine) -> None:
    """The database was restored from a backup, so nobody knows what the client has."""
    await add_task(store, "t", 2)
    await run_task(store, 2)
    assert positions(await whole(app, "999-1")) == [0, 1]

"""A status request with `wait` is answered when there is news, and nobody polls for it."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from starlette.types import ASGIApp

from captiond.keys import Key, Scope, digest_of, new_secret
from captiond.messages import Drain, Queued, TasksChanged
from captiond.settings.server_settings import ServerSettings
from captiond.store import tasks
from captiond.store.engine import Engine
from captiond.web.app import make_app
from captiond.web.async_tasks import task_watch
from captiond.web.async_tasks.task_watch import WatchedTask
from tests.answers import BY_NAME, check
from tests.patience import PATIENCE
from tests.unit.filling import RETRYABLE, add_task, claimed, run_task
from tests.unit.openrequest import OpenRequest, open_request
from tests.unit.webprocess import WebProcess, web_process

pytestmark = pytest.mark.anyio
STATUS = "/async-batch-caption/status/t"
LONG = f"{STATUS}?wait=60"


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path, server=ServerSettings(connections=4)) as process:
        yield process


@pytest.fixture
def app(web: WebProcess) -> ASGIApp:
    return make_app(web.services)


@pytest.fixture
def without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only hints wake those that wait."""
    monkeypatch.setattr(task_watch, "POLL_SECONDS", 2 * PATIENCE)


@pytest.fixture
def without_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of those that wait never pass."""
    change = WatchedTask.change
    monkeypatch.setattr(WatchedTask, "change", lambda task, _: change(task, math.inf))


async def waiting(web: WebProcess, number: int) -> None:
    """Return once so many clients wait."""
    async with asyncio.timeout(PATIENCE):
        while web.services.watch.waiters != number:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("without_poll")
async def test_it_is_answered_at_the_end_of_the_task(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    await add_task(store, "t", 2)
    async with open_request(app, LONG) as request:
        await waiting(web, 1)
        for _ in range(2):  # a change is not the end
            assert not request.task.done()
            await run_task(store, 1)
            web.channel.send(TasksChanged(("other", "t")))
        assert await request.answered() == 200
    assert b'"status":"COMPLETED"' in request.body
    async with open_request(app, LONG) as again:  # a finished task has no more to wait for
        assert await again.answered() == 200


@pytest.mark.usefixtures("without_poll")
async def test_with_an_etag_it_is_answered_at_the_next_revision(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    await add_task(store, "t", 2)
    await run_task(store, 1)
    etag = (await web.client.get(STATUS)).headers["etag"]
    async with open_request(app, LONG, {"If-None-Match": etag}) as request:
        await waiting(web, 1)
        await run_task(store, 1)
        web.channel.send(TasksChanged(("t",)))
        assert await request.answered() == 200
    known = {"If-None-Match": request.headers["etag"]}
    async with open_request(app, LONG, known) as request:
        assert await request.answered() == 304
    async with open_request(app, LONG, {"If-None-Match": etag}) as request:
        assert await request.answered() == 200


async def test_it_is_answered_after_its_seconds(web: WebProcess, store: Engine) -> None:
    await add_task(store, "t", 1)
    etag = (await web.client.get(STATUS)).headers["etag"]
    response = await web.client.get(f"{STATUS}?wait=1")
    assert response.json()["status"] == "PENDING"
    response = await web.client.get(f"{STATUS}?wait=1", headers={"If-None-Match": etag})
    assert response.status_code == 304


@pytest.mark.usefixtures("without_deadlines")
async def test_a_change_whose_hint_was_lost_is_seen(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    await add_task(store, "t", 1)
    async with open_request(app, LONG) as request:
        await waiting(web, 1)
        await tasks.cancel(store, "t", now=2.0)  # as a command does
        assert await request.answered() == 200
    assert b'"status":"CANCELLED"' in request.body


@pytest.mark.usefixtures("without_poll")
@pytest.mark.usefixtures("without_deadlines")
async def test_a_stop_answers_at_once(web: WebProcess, app: ASGIApp, store: Engine) -> None:
    await add_task(store, "t", 1)
    async with open_request(app, LONG) as request:
        await waiting(web, 1)
        web.channel.send(Drain())
        assert await request.answered() == 200
    async with open_request(app, LONG) as later:
        assert await later.answered() == 200


@pytest.mark.usefixtures("without_poll")
async def test_a_client_that_leaves_is_dropped(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    await add_task(store, "t", 1)
    async with open_request(app, LONG) as request:
        await waiting(web, 1)
        await request.leave()
        assert web.services.watch.waiters == 0
        assert request.status is None


@pytest.mark.usefixtures("without_poll")
async def test_the_number_of_waiting_clients_is_bounded(
    web: WebProcess, app: ASGIApp, store: Engine
) -> None:
    await add_task(store, "t", 1)
    waiters: list[OpenRequest] = []
    async with (
        open_request(app, LONG) as first,
        open_request(app, LONG) as second,
        open_request(app, LONG) as third,
    ):
        waiters += (first, second, third)
        await waiting(web, 3)
        for path in (LONG, "/async-batch-caption/events/t"):
            refused = await web.client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_waiting")
            assert refused.headers["retry-after"] == "5"
            check(BY_NAME["task_status"], refused)
        assert (await web.client.get(STATUS)).status_code == 200
        await first.leave()
        assert (await web.client.get(f"{STATUS}?wait=1")).status_code == 200


@pytest.mark.usefixtures("without_poll")
async def test_a_change_is_read_once_for_all_who_wait(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_watch, "SECONDS_FOR_EACH", 0)
    statements: list[Any] = []
    async with web_process(store, tmp_path) as web:
        app = make_app(web.services)
        await add_task(store, "t", 2)
        requests = [OpenRequest(app, LONG, {}, "GET") for _ in range(50)]
        await waiting(web, 50)
        await run_task(store, 1)
        event.listen(
            store.sql.sync_engine, "before_cursor_execute", lambda *all: statements.append(all[2])
        )
        web.channel.send(TasksChanged(("t",)))
        async with open_request(app, "/async-batch-caption/events/t") as witness:
            await witness.has(b'"done":1')
        read = [each for each in statements if each.startswith("SELECT")]
        assert 0 < len(read) < 15
        for request in requests:
            request.task.cancel()
        await asyncio.gather(*(each.task for each in requests), return_exceptions=True)


@pytest.mark.parametrize("wait", ["61", "-1", "x", "1.5", "", "9" * 20])
async def test_a_wrong_wait_is_refused(web: WebProcess, store: Engine, wait: str) -> None:
    await add_task(store, "t", 1)
    response = await web.client.get(f"{STATUS}?wait={wait}")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", "wait"]
    check(BY_NAME["task_status"], response)


async def test_an_unknown_task_is_not_waited_for(web: WebProcess) -> None:
    response = await web.client.get("/async-batch-caption/status/unknown?wait=60")
    assert (response.status_code, response.json()["code"]) == (404, "task_not_found")


# ---------------------------------------------------------------- retry


async def test_a_task_is_retried_and_every_process_is_notified(
    web: WebProcess, store: Engine
) -> None:
    operation = BY_NAME["retry_task"]
    await add_task(store, "t", 2)
    await run_task(store, 1)
    path = "/async-batch-caption/t/retry"
    running = await web.client.post(path)
    assert (running.status_code, running.json()["code"]) == (409, "nothing_to_retry")
    await run_task(store, 1, RETRYABLE)
    retried = await web.client.post(path)
    assert (retried.status_code, retried.json()["status"]) == (200, "PENDING")
    assert await web.message(Queued) == Queued()
    assert await web.message(TasksChanged) == TasksChanged(("t",))
    unknown = await web.client.post("/async-batch-caption/x/retry")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "task_not_found")
    for response in (running, retried, unknown):
        check(operation, response)
    await run_task(store, 1)
    assert (await web.client.get(STATUS)).json()["progress"]["failed"] == 0


async def test_results_of_a_retry_need_the_scope_read(
    web: WebProcess, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a model process is so fast that the task is being processed again at once."""
    secrets = new_secret(), new_secret()
    scopes = {Scope.CAPTION}, {Scope.CAPTION, Scope.READ}
    keys = [
        Key("k", digest_of(secret.encode()), scopes=frozenset(some))
        for secret, some in zip(secrets, scopes, strict=True)
    ]
    retry = tasks.retry

    async def retry_and_claim(engine: Engine, task_id: str) -> int:
        number = await retry(engine, task_id)
        await claimed(engine, 1)
        return number

    monkeypatch.setattr(tasks, "retry", retry_and_claim)
    await web.set_keys(*keys)
    for results, (task_id, secret) in enumerate(zip("tu", secrets, strict=True)):
        await add_task(store, task_id, 2, client=keys[results].client)
        await run_task(store, 1)
        await run_task(store, 1, RETRYABLE)
        path = f"/async-batch-caption/{task_id}/retry"
        retried = await web.client.post(path, headers={"X-API-Key": secret})
        check(BY_NAME["retry_task"], retried)
        assert retried.json()["status"] == "PROCESSING"
        assert len(retried.json()["result"]) == results

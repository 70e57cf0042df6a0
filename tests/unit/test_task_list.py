"""Lists of tasks: parts that fit together, for those who may see them, found by an index."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from captiond.clients import Client
from captiond.jobs import Status, TaskCounts
from captiond.keys import Key, Scope, digest_of, new_secret
from captiond.settings.client_settings import ClientSettings
from captiond.store.engine import Engine, reading, writing
from captiond.store.listing import ListPlace, newest_tasks
from captiond.store.tasks import cancel
from captiond.web.async_tasks.task_list import MOST, cursor_of
from tests.answers import BY_NAME, check
from tests.unit.filling import add_task, run_task
from tests.unit.webprocess import WebProcess, web_process

pytestmark = pytest.mark.anyio
OPERATION = BY_NAME["list_tasks"]


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path, clients=ClientSettings(lists="all")) as process:
        yield process


async def listed(web: WebProcess, query: str = "", secret: str = "") -> dict[str, Any]:
    headers = {"X-API-Key": secret} if secret else {}
    response = await web.client.get(f"/tasks?{query}", headers=headers)
    assert response.status_code == 200, response.text
    check(OPERATION, response)
    body: dict[str, Any] = response.json()
    return body


async def ids(web: WebProcess, query: str = "", secret: str = "") -> list[str]:
    return [item["task_id"] for item in (await listed(web, query, secret))["items"]]


async def test_the_newest_are_first_with_the_numbers_of_their_images(
    web: WebProcess, store: Engine
) -> None:
    await add_task(store, "old", 3, refused=[1], created_at=1.0)
    await run_task(store, 1)
    await add_task(store, "new", 1, created_at=2.0)
    new, old = (await listed(web))["items"]
    assert (new["task_id"], new["status"], new["started_at"]) == ("new", "PENDING", None)
    assert old["progress"] == {"total": 3, "done": 2, "failed": 1}
    assert old["message"] == "Task is being processed. 2/3 images done."
    assert (await listed(web))["next"] is None


async def test_the_parts_fit_together_although_tasks_come_and_go(
    web: WebProcess, store: Engine
) -> None:
    for number in range(7):  # several at the same moment
        await add_task(store, f"t{number}", 1, created_at=float(number // 3))
    first = await listed(web, "limit=3")
    assert [item["task_id"] for item in first["items"]] == ["t6", "t5", "t4"]
    await add_task(store, "newer", 1, created_at=9.0)
    async with writing(store) as connection:
        await connection.execute(text("DELETE FROM tasks WHERE id IN ('t4', 't2')"))
    second = await listed(web, f"limit=3&cursor={first['next']}")
    assert [item["task_id"] for item in second["items"]] == ["t3", "t1", "t0"]
    assert second["next"] is None


async def test_only_tasks_of_a_status(web: WebProcess, store: Engine) -> None:
    await add_task(store, "done", 1)
    await run_task(store, 1)
    await add_task(store, "failed", 1, refused=[0])
    await add_task(store, "waits", 1)
    for status, task_id in (("COMPLETED", "done"), ("FAILED", "failed"), ("PENDING", "waits")):
        assert await ids(web, f"status={status}") == [task_id]
    assert await ids(web, "status=CANCELLED") == []


def made(name: str, *scopes: Scope) -> tuple[Key, str]:
    secret = new_secret()
    return Key(name, digest_of(secret.encode()), scopes=frozenset(scopes)), secret


async def test_a_key_lists_its_own_tasks_and_an_operator_all(
    web: WebProcess, store: Engine
) -> None:
    (one, first), (two, second) = made("one", Scope.READ), made("two", Scope.READ)
    operator, admin = made("operator", Scope.ADMIN)
    await web.set_keys(one, two, operator)
    for number, key in enumerate((one, two, one)):
        await add_task(store, f"t{number}", 1, client=key.client, created_at=float(number))
    assert await ids(web, secret=first) == ["t2", "t0"]
    assert await ids(web, "status=PENDING", second) == ["t1"]
    assert await ids(web, secret=admin) == ["t2", "t1", "t0"]
    last_of_other = cursor_of(ListPlace(1.0, "t1"))
    assert await ids(web, f"cursor={last_of_other}", first) == ["t0"]


async def test_without_keys_the_settings_decide(store: Engine, tmp_path: Path) -> None:
    await add_task(store, "nearby", 1, client=Client("address:127.0.0.1"))
    await add_task(store, "elsewhere", 1, client=Client("address:10.0.0.1"), created_at=2.0)
    async with web_process(store, tmp_path) as web:
        refused = await web.client.get("/tasks")
        assert (refused.status_code, refused.json()["code"]) == (403, "list_refused")
        assert "nearby" not in refused.text
        check(OPERATION, refused)
    for lists, seen in (("own", ["nearby"]), ("all", ["elsewhere", "nearby"])):
        clients = ClientSettings.model_validate({"lists": lists})
        async with web_process(store, tmp_path, clients=clients) as web:
            assert await ids(web) == seen


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "query",
    [
        "cursor=",
        "cursor=x",
        "cursor=%C3%A9%F0%9F%90%88",
        f"cursor={encoded([1.0])}",
        f"cursor={encoded(['1.0', 't'])}",
        f"cursor={encoded([1, 't'])}",
        f"cursor={encoded([float('inf'), 't'])}",
        f"cursor={encoded([1.0, 't', 1])}",
        f"cursor={encoded([1.0, chr(0xD800)])}",
        f"cursor={encoded([1.0, chr(0)])}",
        f"cursor={encoded({'a': 1})}",
        f"cursor={encoded([1.0, 't'])}=",
        f"cursor={'A' * 1000}",
        f"cursor={encoded([[]] * 50)}",
        "limit=0",
        f"limit={MOST + 1}",
        "limit=x",
        "status=DONE",
        "status=",
    ],
)
async def test_a_wrong_query_is_refused(web: WebProcess, query: str) -> None:
    response = await web.client.get(f"/tasks?{query}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert response.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]
    check(OPERATION, response)


@pytest.mark.parametrize("status", [None, Status.FAILED])
@pytest.mark.parametrize("client", [None, "key:k"])
async def test_every_list_is_read_by_an_index_in_its_order(
    store: Engine, status: Status | None, client: str | None
) -> None:
    """A sort or a filter would read a million tasks for twenty."""
    statements: list[tuple[str, Any]] = []
    event.listen(
        store.sql.sync_engine, "before_cursor_execute", lambda *all: statements.append(all[2:4])
    )
    await newest_tasks(store, 20, status, client=client, after=ListPlace(5.0, "t"))
    statement, parameters = next(each for each in statements if "ORDER BY" in each[0])
    async with reading(store) as connection:
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        (step,) = [row[-1] for row in plan]
    columns = [name for name, value in (("client", client), ("status", status)) if value]
    assert f"ix_tasks_{'_'.join([*columns, 'created_at_id'])} (" in step


async def test_the_images_of_listed_tasks_are_not_read(store: Engine) -> None:
    """A part has up to 100 tasks with 10,000 images each. Indexes have all that is counted."""
    statements: list[tuple[str, Any]] = []
    event.listen(
        store.sql.sync_engine, "before_cursor_execute", lambda *all: statements.append(all[2:4])
    )
    await add_task(store, "t", 1)
    await newest_tasks(store, 20)
    statement, parameters = next(each for each in statements if "FAILED" in each[0])
    async with reading(store) as connection:
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps = [row[-1] for row in plan if " images " in row[-1]]
    by_task, uncaptioned = (
        f"SEARCH images USING COVERING INDEX {index}"
        for index in (
            "sqlite_autoindex_images_1 (task_id=?)",
            "ix_images_task_id_status (task_id=? AND status=?)",
        )
    )
    assert steps == [by_task, uncaptioned, uncaptioned]


async def test_each_image_counts_as_what_it_is(store: Engine) -> None:
    await add_task(store, "t", 5, refused=[1])
    await run_task(store, 2)
    await cancel(store, "t", now=9.0)
    (task,) = await newest_tasks(store, 20)
    assert task.counts == TaskCounts(total=5, done=5, captioned=2, failed=1)

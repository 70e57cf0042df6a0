"""The operations on imports: list, show and cancel."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from captiond.store import shards
from captiond.store.engine import Engine
from captiond.store.shards import NewImport
from tests.unit.webprocess import WebProcess, web_process

pytestmark = pytest.mark.anyio
IDS = [f"import_178500000{n}_0123456789abcdef" for n in range(3)]


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    for number, name in enumerate(IDS):
        new = NewImport(name, ("/p",), "uri", f"/{name}", "jsonl", 2, float(number), queued=True)
        await shards.join_import(store, new)
    async with web_process(store, tmp_path) as process:
        yield process


async def test_the_newest_imports_are_listed(web: WebProcess) -> None:
    listed = (await web.client.get("/imports?limit=2")).json()["items"]
    assert [item["import_id"] for item in listed] == [IDS[2], IDS[1]]
    assert (listed[0]["status"], listed[0]["queued"]) == ("PENDING", True)
    refused = await web.client.get("/imports?limit=0")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


async def test_a_source_may_have_bytes_that_are_no_utf8(web: WebProcess, store: Engine) -> None:
    new = NewImport("import_1_a", ("/\udce9",), "uri", "/a", "jsonl", 2, 9.0, queued=True)
    await shards.join_import(store, new)
    assert (await web.client.get("/imports")).json()["items"][0]["sources"] == ["/\\udce9"]


async def test_an_import_is_cancelled_once_and_cannot_be_when_finished(
    web: WebProcess, store: Engine
) -> None:
    path = f"/imports/{IDS[0]}"
    for _ in range(2):
        cancelled = await web.client.post(f"{path}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    assert (await web.client.get(path)).json() == cancelled.json()
    await shards.begin_listing(store, IDS[1], "lister")
    await shards.end_listing(store, IDS[1], "lister", now=2.0)  # without images, it has failed
    late = await web.client.post(f"/imports/{IDS[1]}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "task_finished")
    for method, missing in (("GET", "/imports/import_1_a"), ("POST", "/imports/import_1_a/cancel")):
        response = await web.client.request(method, missing)
        assert (response.status_code, response.json()["code"]) == (404, "import_not_found")

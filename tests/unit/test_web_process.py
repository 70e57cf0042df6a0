"""What a web process reports to the supervisor, and which files it removes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond.config import LimitSettings
from captiond.messages import Ask, Drop, Measured
from captiond.metrics import (
    FILES_REFUSED,
    REQUEST_ERRORS,
    REQUESTS,
    UPLOAD_BYTES,
    Measurements,
    Registry,
)
from captiond.store.engine import Engine
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
SENT_STATUS = "/async-batch-caption/status/{task_id}"


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path) as process:
        yield process


async def measured(web: WebProcess) -> Measurements:
    """Return what the web process sends."""
    reporting = asyncio.create_task(web.services.supervisor.report(web.services.recorder))
    message: Measured = await web.message(Measured)
    reporting.cancel()
    registry = Registry()
    registry.add(message.measurements)
    return registry.total


async def test_requests_are_counted_by_route_and_status(web: WebProcess) -> None:
    for path in ("/livez", "/livez", "/static/page.css", "/nowhere", "/livez/"):
        await web.client.get(path)
    for task_id in ("a", "b"):
        await web.client.get(SENT_STATUS.format(task_id=task_id))
    await web.client.delete("/livez")
    counts = (await measured(web)).counts
    assert {series: n for series, n in counts.items() if series[0] == REQUESTS.name} == {
        (REQUESTS.name, ("/livez", "200")): 2,
        (REQUESTS.name, ("/livez", "405")): 1,
        (REQUESTS.name, ("/static", "200")): 1,
        (REQUESTS.name, ("unmatched", "404")): 1,
        (REQUESTS.name, ("unmatched", "307")): 1,
        (REQUESTS.name, (SENT_STATUS, "404")): 2,
    }
    assert {series: n for series, n in counts.items() if series[0] == REQUEST_ERRORS.name} == {
        (REQUEST_ERRORS.name, ("not_found",)): 1,
        (REQUEST_ERRORS.name, ("method_not_allowed",)): 1,
        (REQUEST_ERRORS.name, ("task_not_found",)): 2,
    }


async def test_the_log_shows_no_whole_task_id_and_no_endless_path(web: WebProcess) -> None:
    """Whoever reads the log could read the results of the task."""
    task = "task_1700000000_" + "0123456789abcdef" * 2
    for path in (SENT_STATUS.format(task_id=task), f"/{task}/x", f"/{'a' * 5000}/{task}"):
        with capture_logs() as logs:
            await web.client.get(path)
        (entry,) = (each for each in logs if each["event"] == "request")
        assert len(entry["path"]) <= 200
        assert "abcdef" not in str(logs)
    with capture_logs() as logs:
        await web.client.get(f"/{task}")
    assert logs[0]["path"] == "/task_1700000000_012345…"


async def test_uploads_are_counted_in_bytes_and_refused_files_by_code(web: WebProcess) -> None:
    files = [("images", ("a.png", PNG)), ("images", ("b.png", b"no")), ("images", ("c.png", b""))]
    response = await web.client.post("/async-batch-caption", files=files)
    assert response.status_code == 202
    counts = (await measured(web)).counts
    assert counts[UPLOAD_BYTES.name, ()] == int(response.request.headers["content-length"])
    assert counts[FILES_REFUSED.name, ("not_an_image",)] == 1
    assert counts[FILES_REFUSED.name, ("empty_image",)] == 1
    assert (REQUEST_ERRORS.name, ("not_an_image",)) not in counts


async def test_the_supervisor_removes_the_file_of_a_cancelled_task(web: WebProcess) -> None:
    accepted = await web.client.post("/async-batch-caption", files={"images": ("a.png", PNG)})
    task = f"/async-batch-caption/{accepted.json()['task_id']}"
    (file,) = web.spool.iterdir()
    assert (await web.client.delete(task)).json()["status"] == "CANCELLED"
    assert (await web.cancelled()).file == file.name
    assert file.exists()
    assert (await web.client.delete(task)).status_code == 200
    assert (await web.cancelled()).file is None


async def test_the_file_of_a_request_is_removed_with_it(web: WebProcess) -> None:
    files = {"images": ("a.png", PNG)}
    refused = await web.client.post("/async-batch-caption", files=files, data={"num_beams": "99"})
    assert refused.status_code == 422
    assert list(web.spool.iterdir()) == []


async def test_the_image_of_a_client_whose_time_is_up_is_withdrawn(
    store: Engine, tmp_path: Path
) -> None:
    limits = LimitSettings(request_seconds=0.001)
    async with web_process(store, tmp_path, limits=limits) as web:
        late = await web.client.post("/caption", files={"image": ("a.png", PNG)})
        assert (late.status_code, late.json()["code"]) == (504, "request_timeout")
        ask: Ask = await web.message(Ask)
        drop: Drop = await web.message(Drop)
        assert drop.tickets == (ask.ticket,)

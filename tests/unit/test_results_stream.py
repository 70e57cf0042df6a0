"""The results of a task as JSON, JSON lines or CSV: all, in parts, safe in a spreadsheet."""

import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from captiond.errors import StoreError
from captiond.notation.csvrows import FORMULA, csv_header, csv_row, harmless
from captiond.store.engine import Engine
from captiond.store.history import results_from
from captiond.web.async_tasks import results_stream
from captiond.web.async_tasks.results_stream import RESULTS, ResultFormat, accepted
from tests.answers import BY_NAME, check
from tests.unit.filling import CAPTION, add_task, run_task
from tests.unit.webprocess import WebProcess, web_process

pytestmark = pytest.mark.anyio
OPERATION = BY_NAME["task_results"]
PATH = "/async-batch-caption/results/t"
MEDIA = {"json": "application/json", "ndjson": "application/x-ndjson", "csv": "text/csv"}


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path) as process:
        yield process


async def statuses(web: WebProcess) -> list[dict[str, Any]]:
    """Return the results as the status has them."""
    response = await web.client.get("/async-batch-caption/status/t")
    results: list[dict[str, Any]] = response.json()["result"]
    return results


@pytest.mark.parametrize("images", [1, RESULTS, RESULTS + 1, 3 * RESULTS])
async def test_the_formats_have_all_results(web: WebProcess, store: Engine, images: int) -> None:
    await add_task(store, "t", images, refused=[images // 2])
    await run_task(store, images)
    expected = await statuses(web)
    assert len(expected) == images
    whole = await web.client.get(PATH)
    check(OPERATION, whole)
    assert whole.json()["results"] == expected
    assert (whole.json()["status"], whole.json()["complete"]) == (
        whole.headers["task-status"],
        True,
    )
    lines = (await web.client.get(f"{PATH}?format=ndjson")).text.splitlines()
    assert [json.loads(line) for line in lines] == expected
    table = (await web.client.get(f"{PATH}?format=csv")).text
    rows = [*csv.DictReader(io.StringIO(table))]
    assert [row["image_path"] for row in rows] == [each["image_path"] for each in expected]
    assert [row["caption"] or None for row in rows] == [each["caption"] for each in expected]
    assert [row["code"] or None for row in rows] == [each.get("code") for each in expected]


async def test_a_task_that_runs_has_what_is_there_and_says_so(
    web: WebProcess, store: Engine
) -> None:
    await add_task(store, "t", 3)
    waits = await web.client.get(PATH)
    assert (waits.json()["results"], waits.headers["task-status"]) == ([], "PENDING")
    await run_task(store, 2)
    runs = await web.client.get(PATH)
    assert (len(runs.json()["results"]), runs.json()["complete"]) == (2, False)
    assert runs.headers["task-status"] == "PROCESSING"
    known = {"If-None-Match": runs.headers["etag"]}
    assert (await web.client.get(PATH, headers=known)).status_code == 304
    await run_task(store, 1)
    assert len((await web.client.get(PATH, headers=known)).json()["results"]) == 3


async def test_a_body_is_read_in_parts(web: WebProcess, store: Engine) -> None:
    """A task of any size takes the same memory."""
    await add_task(store, "t", 4 * RESULTS)
    await run_task(store, 4 * RESULTS)
    limits: list[Any] = []

    def note(*everything: Any) -> None:
        if "images.result" in everything[2]:
            limits.append(everything[3][-2])

    event.listen(store.sql.sync_engine, "before_cursor_execute", note)
    assert len((await web.client.get(PATH)).json()["results"]) == 4 * RESULTS
    assert limits == [RESULTS] * 5


@pytest.mark.parametrize("chosen", ResultFormat)
async def test_the_headers_name_a_file(web: WebProcess, store: Engine, chosen: str) -> None:
    await add_task(store, "t", 1)
    for method in ("GET", "HEAD"):
        for query, accept in ((f"?format={chosen}", "text/html"), ("", MEDIA[chosen])):
            response = await web.client.request(method, PATH + query, headers={"Accept": accept})
            assert response.headers["content-type"].startswith(MEDIA[chosen])
            name = f'attachment; filename="t.{chosen}"'
            assert response.headers["content-disposition"] == name
            assert response.headers["vary"] == "Accept"
            assert (response.content == b"") == (method == "HEAD" or chosen == "ndjson")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/html, */*;q=0.1", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV;header=present", "csv"),
        ("text/csv;q=0.5, application/x-ndjson", "ndjson"),
        ("text/csv;q=x, application/x-ndjson;q=0.1", "ndjson"),
        ("text/csv;q=0", "json"),
    ],
)
def test_accept_chooses_a_format(accept: str, chosen: str) -> None:
    assert accepted(accept) == chosen


async def test_what_is_wrong_is_refused(web: WebProcess, store: Engine) -> None:
    await add_task(store, "t", 1)
    for path, code in ((f"{PATH}?format=xml", 422), ("/async-batch-caption/results/x", 404)):
        response = await web.client.get(path)
        assert response.status_code == code
        check(OPERATION, response)


# ---------------------------------------------------------------- spreadsheets


@pytest.mark.parametrize("beginning", FORMULA, ids=lambda text: f"U+{ord(text):04X}")
def test_a_formula_is_text_in_a_spreadsheet(beginning: str) -> None:
    """A client chooses the names of its files, and a prompt the beginning of a caption."""
    command = f"{beginning}cmd|' /C calc'!A0"
    result = {
        "image_path": command,
        "caption": command,
        "tags": [command, "b"],
        "error": None,
        "width": -3,
    }
    (row,) = csv.DictReader(io.StringIO(csv_header() + csv_row(result), newline=""))
    assert row["image_path"] == row["caption"] == f"'{command}"
    assert row["tags"] == f"'{command}, b"
    assert (row["error"], row["width"]) == ("", "-3")


@pytest.mark.parametrize("text", ["a cat", "1-2", "", "a=b", "'=x", 'with "quotes", and\nlines'])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text
    row = csv_row({"image_path": text, "tags": None})
    assert next(csv.reader(io.StringIO(row, newline="")))[0] == text


async def test_any_caption_can_be_sent(web: WebProcess, store: Engine) -> None:
    await add_task(store, "t", 1)
    await run_task(store, 1, replace(CAPTION, caption="=1+1\r\n🐈,\u2028\x00"))
    response = await web.client.get(f"{PATH}?format=csv")
    (row,) = csv.DictReader(io.StringIO(response.text, newline=""))
    assert row["caption"] == "'=1+1\r\n🐈,\u2028\x00"
    (line,) = (await web.client.get(f"{PATH}?format=ndjson")).content.splitlines()
    assert json.loads(line)["caption"] == "=1+1\r\n🐈,\u2028\x00"


async def test_a_database_that_fails_in_between_is_logged_without_a_traceback(
    web: WebProcess, store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_task(store, "t", RESULTS + 1)
    await run_task(store, RESULTS + 1)

    async def failing(*arguments: Any, **options: Any) -> Any:
        if arguments[2]:
            raise StoreError("the disk has failed")
        return await results_from(*arguments, **options)

    monkeypatch.setattr(results_stream, "results_from", failing)
    incomplete = pytest.raises(AssertionError)  # httpx says so of an answer without an end
    with capture_logs() as logs, incomplete:
        await web.client.get(PATH)
    (broken,) = [entry for entry in logs if entry["event"] == "answer_broken_off"]
    assert (broken["reason"], broken["log_level"]) == ("the disk has failed", "error")
    assert "request_failed" not in {entry["event"] for entry in logs}

"""What a web process reports to the supervisor, and which files it removes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from captiond.keys import Key, Scope, digest_of, new_secret
from captiond.messages import Ask, AskMetrics, Drop, Measured, MetricsAnswer, State
from captiond.metrics import (
    CLIENTS_LIMITED,
    FILES_REFUSED,
    REQUEST_ERRORS,
    REQUEST_SECONDS,
    REQUESTS,
    SPOOL_BYTES,
    UPLOAD_BYTES,
)
from captiond.recording import Measurements, Recorder, Registry
from captiond.settings.client_settings import ClientSettings
from captiond.settings.config import LimitSettings
from captiond.store.engine import Engine
from captiond.web import scrape
from captiond.web.exposition import TextFormat
from tests.patience import PATIENCE
from tests.unit.webprocess import HEALTHY, PNG, WebProcess, web_process

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
    await web.client.request("INVENTED", "/livez")
    total = await measured(web)
    counts = total.counts
    assert {series: n for series, n in counts.items() if series[0] == REQUESTS.name} == {
        (REQUESTS.name, ("GET", "/livez", "200")): 2,
        (REQUESTS.name, ("DELETE", "/livez", "405")): 1,
        (REQUESTS.name, ("other", "/livez", "405")): 1,
        (REQUESTS.name, ("GET", "/static", "200")): 1,
        (REQUESTS.name, ("GET", "unmatched", "404")): 1,
        (REQUESTS.name, ("GET", "unmatched", "307")): 1,
        (REQUESTS.name, ("GET", SENT_STATUS, "404")): 2,
    }
    assert {series: n for series, n in counts.items() if series[0] == REQUEST_ERRORS.name} == {
        (REQUEST_ERRORS.name, ("not_found",)): 1,
        (REQUEST_ERRORS.name, ("method_not_allowed",)): 2,
        (REQUEST_ERRORS.name, ("task_not_found",)): 2,
    }
    timed = total.distributions[REQUEST_SECONDS.name, ("GET", "/livez")]
    assert sum(timed.counts) == 2
    assert 0 < timed.sum < PATIENCE


async def test_probes_polls_and_files_are_logged_at_debug_unless_they_fail(web: WebProcess) -> None:
    with capture_logs() as logs:
        for path in ("/livez", "/readyz", "/health", "/static/page.css", "/docs", "/", "/version"):
            await web.client.get(path)
        await web.set_state(State())
        await web.client.get("/readyz")  # 503: a probe while the model is being loaded
        await web.client.get("/static/nothing")
        await web.client.get(SENT_STATUS.format(task_id="a"))
        await web.client.post("/caption")
    levels = {(each["path"], each["status"]): each["log_level"] for each in logs}
    info = {path for (path, _), level in levels.items() if level == "info"}
    assert info == {"/static/nothing", SENT_STATUS.format(task_id="a"), "/caption"}
    assert levels["/readyz", 503] == "debug"
    assert levels["/readyz", 200] == "debug"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (replace(HEALTHY, disk_free=0), "too little free space"),
        (replace(HEALTHY, disk_writable=False), "cannot be written"),
    ],
)
async def test_probes_say_that_no_image_can_be_stored(
    web: WebProcess, state: State, reason: str
) -> None:
    await web.set_state(state)
    health, ready = [await web.client.get(path) for path in ("/health", "/readyz")]
    assert (health.status_code, ready.status_code) == (503, 503)
    assert (health.json()["status"], ready.json()["code"]) == ("degraded", "cannot_store")
    for body in (health.json(), ready.json()):
        assert [reason in each for each in body["reasons"]] == [True]
    assert (await web.client.get("/info")).json()["status"] == "degraded"
    assert (await web.client.get("/livez")).status_code == 200
    await web.set_state(HEALTHY)
    for path in ("/health", "/readyz"):
        assert (await web.client.get(path)).status_code == 200


async def test_a_client_over_a_limit_is_counted_by_the_limit(store: Engine, tmp_path: Path) -> None:
    limits = ClientSettings(requests=1, window_seconds=3600)
    async with web_process(store, tmp_path, clients=limits) as web:
        for status in (200, 429, 429):
            assert (await web.client.get("/info")).status_code == status
        counts = (await measured(web)).counts
        assert counts[CLIENTS_LIMITED.name, ("requests",)] == 2
        assert counts[REQUEST_ERRORS.name, ("too_many_requests",)] == 2


# ---------------------------------------------------------------- the metrics of all processes


async def scraped(web: WebProcess, registry: Registry) -> httpx.Response:
    """Get the metrics, with `registry` as that of the supervisor."""
    asking = asyncio.create_task(web.client.get("/metrics"))
    asked = None
    while asked is None:
        match await web.channel.receive():
            case Measured(measurements):
                registry.add(measurements)
            case AskMetrics(number):
                asked = number
    web.channel.send(MetricsAnswer(asked, registry.total))
    return await asking


async def test_metrics_are_those_of_the_supervisor_with_what_is_new_here(web: WebProcess) -> None:
    await web.client.get("/livez")
    registry = Registry()
    registry.set(SPOOL_BYTES, 12)
    response = await scraped(web, registry)
    assert response.headers["content-type"] == TextFormat.PROMETHEUS
    assert "\ncaptiond_spool_bytes 12\n" in response.text
    livez = 'captiond_http_requests_total{method="GET",route="/livez",status="200"} 1'
    assert livez in response.text.splitlines()


async def test_those_who_ask_at_the_same_time_share_one_question(web: WebProcess) -> None:
    first = asyncio.create_task(web.client.get("/metrics"))
    ask: AskMetrics = await web.message(AskMetrics)
    second = asyncio.create_task(web.client.get("/metrics"))
    await web.set_keys(required=False)  # a round trip, in which the second request arrives
    web.channel.send(MetricsAnswer(ask.number, Registry().total))
    assert [(await each).status_code for each in (first, second)] == [200, 200]


async def test_a_supervisor_that_is_too_busy_is_a_503(
    web: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its late answer is not taken for the answer to the next question."""
    monkeypatch.setattr(scrape, "ANSWER_SECONDS", 0.001)
    busy = await web.client.get("/metrics")
    assert (busy.status_code, busy.json()["code"]) == (503, "metrics_unavailable")
    assert int(busy.headers["retry-after"]) > 0
    late: AskMetrics = await web.message(AskMetrics)
    monkeypatch.undo()
    registry = Registry()
    registry.set(SPOOL_BYTES, 1)
    web.channel.send(MetricsAnswer(late.number, registry.total))
    assert "captiond_spool_bytes 1\n" not in (await scraped(web, Registry())).text


async def test_who_has_waited_too_long_does_not_end_the_question_of_the_next_one(
    web: WebProcess,
) -> None:
    client, recorder = web.services.supervisor, Recorder()
    first, second = (
        asyncio.create_task(client.metrics(recorder, seconds=seconds)) for seconds in (0.001, 0.2)
    )
    with pytest.raises(TimeoutError):
        await first
    await web.message(AskMetrics)
    third = asyncio.create_task(client.metrics(recorder, seconds=PATIENCE))
    ask: AskMetrics = await web.message(AskMetrics)
    with pytest.raises(TimeoutError):
        await second
    web.channel.send(MetricsAnswer(ask.number, Registry().total))
    assert await third == Registry().total


async def test_who_shares_a_question_gets_its_answer_after_the_first_has_given_up(
    web: WebProcess,
) -> None:
    client, recorder = web.services.supervisor, Recorder()
    first, second = (
        asyncio.create_task(client.metrics(recorder, seconds=seconds))
        for seconds in (0.001, PATIENCE)
    )
    ask: AskMetrics = await web.message(AskMetrics)
    with pytest.raises(TimeoutError):
        await first
    web.channel.send(MetricsAnswer(ask.number, Registry().total))
    assert await second == Registry().total


async def test_the_metrics_need_a_key_with_their_scope(web: WebProcess) -> None:
    secrets = {scope: new_secret() for scope in Scope}
    keys = [
        Key(scope, digest_of(secret.encode()), frozenset({scope}))
        for scope, secret in secrets.items()
    ]
    await web.set_keys(*keys)
    assert (await web.client.get("/metrics")).status_code == 401
    for scope in (Scope.CAPTION, Scope.READ):
        web.client.headers["X-API-Key"] = secrets[scope]
        assert (await web.client.get("/metrics")).status_code == 403
    for scope in (Scope.METRICS, Scope.ADMIN):
        web.client.headers["X-API-Key"] = secrets[scope]
        assert (await scraped(web, Registry())).status_code == 200


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

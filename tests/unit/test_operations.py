"""The table of operations is what the application does: its routes, its bodies and its errors."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, TypeAdapter
from starlette.routing import Mount, Route

import captiond.errors
from captiond.errors import (
    CaptiondError,
    Draining,
    ModelNotReady,
    NoSpace,
    QueueFull,
    SpoolError,
    StoreBusy,
    WorkerLost,
)
from captiond.jobs import Caption, Captioned, Outcome, Refused
from captiond.messages import Health, State
from captiond.settings.config import LimitSettings, WebhookSettings
from captiond.store.engine import Engine
from captiond.tags import Category, Kind, Tag
from captiond.web.app import routes
from captiond.web.operation import ADMISSION, ANY_REQUEST, Operation
from captiond.web.operations import OPERATIONS
from captiond.web.problems import InvalidRequest
from captiond.web.schemas import ErrorResponse
from tests.answers import BY_NAME, check, check_type, code_of, path_of
from tests.unit.webprocess import HEALTHY, PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
CAT = Tag("cat", "cat", Category.ANIMAL, Kind.NOUN, 2, 5)
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3, tag_details=(CAT,), score=-0.5)
SEVERAL = (Caption("a cat", -0.5), Caption("a dog", -1.5))
WAITS_FOR_IMAGE = ("caption", "batch_caption")
SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path) as process:
        yield process


# ---------------------------------------------------------------- the table


def test_every_route_is_an_operation() -> None:
    table = {(operation.path, operation.method): operation.handler for operation in OPERATIONS}
    served = {
        (route.path.replace(":path", ""), method): route.endpoint
        for route in routes(OPERATIONS)
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert served == table
    assert [route.path for route in routes(OPERATIONS) if isinstance(route, Mount)] == ["/static"]


def test_names_and_paths_are_unique() -> None:
    """If two operations had one path, the `Allow` of a 405 would name only the first."""
    for names in ([o.name for o in OPERATIONS], [o.path for o in OPERATIONS]):
        assert Counter(names).most_common(1)[0][1] == 1


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_entry_is_complete(operation: Operation) -> None:
    assert operation.summary.endswith(".")
    in_path = {p.name for p in operation.parameters if p.place == "path"}
    assert {f"{{{name}}}" for name in in_path} == {
        part for part in operation.path.split("/") if part.startswith("{")
    }
    assert all(p.required for p in operation.parameters if p.place == "path")
    takes_body = operation.form is not None or operation.body is not None
    assert takes_body == (operation.method == "POST") or operation.name in {
        "retry_task",
        "cancel_import",
    }
    for errors in (operation.errors, operation.image_errors):
        assert len(set(errors)) == len(errors)
    for spec in operation.responses:
        if spec.schema is not None:
            TypeAdapter(spec.schema).json_schema()


NEVER_SENT = {
    "startup_error",  # commands only
    "settings_error",
    "database_unusable",
    "backup_failed",
    "copy_failed",
    "already_running",
    "key_exists",
    "key_not_found",
    "model_missing",  # a reason of model_not_ready
    "model_broken",
    "withdrawn",  # nobody waits for the answer
    "import_cancelled",  # of imports: commands, and rows of result files
    "reference_unreadable",
    "invalid_image",  # base classes
    "bad_request",
    "unavailable",
    "internal_error",  # of every operation
}


def test_every_error_is_listed_by_an_operation_or_never_sent() -> None:
    listed = {e.code for o in OPERATIONS for e in (*o.errors, *o.image_errors)}
    listed |= {e.code for e in ANY_REQUEST}
    defined = {
        value.code
        for value in vars(captiond.errors).values()
        if isinstance(value, type) and issubclass(value, CaptiondError)
    }
    assert defined - listed == NEVER_SENT


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("name", ["page", "health", "livez", "readyz", "version"])
@pytest.mark.parametrize(
    "state",
    [
        HEALTHY,
        State(),
        State(Health.UNHEALTHY, reasons=("no GPU",)),
        State(draining=True),
        replace(HEALTHY, disk_free=0),
    ],
    ids=["healthy", "starting", "unhealthy", "draining", "full"],
)
async def test_answers_without_a_body(web: WebProcess, name: str, state: State) -> None:
    await web.set_state(state)
    check(BY_NAME[name], await web.client.get(BY_NAME[name].path))


@pytest.mark.parametrize("captions", [(), SEVERAL])
async def test_answers_with_captions(web: WebProcess, captions: tuple[Caption, ...]) -> None:
    outcome = Captioned(**{**vars_of(CAPTION), "captions": captions})
    for name, field in (("caption", "image"), ("batch_caption", "images")):
        response = await answered(web, BY_NAME[name], outcome, field)
        assert response.status_code == 200
        assert ("captions" in response.text) == bool(captions)
        check(BY_NAME[name], response)


def vars_of(caption: Captioned) -> dict[str, Any]:
    return {name: getattr(caption, name) for name in caption.__slots__}


async def answered(
    web: WebProcess, operation: Operation, outcome: Outcome, field: str
) -> httpx.Response:
    """Send one image; `outcome` is the supervisor's answer."""
    sending = asyncio.create_task(web.client.post(operation.path, files={field: ("a.png", PNG)}))
    await web.answer(outcome)
    return await sending


async def test_answers_for_tasks(web: WebProcess) -> None:
    files = [("images", ("a.png", PNG)), ("images", ("b.png", b"no image"))]
    accepted = await web.client.post("/async-batch-caption", files=files)
    check(BY_NAME["async_batch_caption"], accepted)
    task_id = accepted.json()["task_id"]
    status = await web.client.get(f"/async-batch-caption/status/{task_id}")
    check(BY_NAME["task_status"], status)
    assert status.json()["result"] is None
    cancelled = await web.client.delete(
        f"/async-batch-caption/{task_id}?limit=0", headers={"If-None-Match": "*"}
    )
    check(BY_NAME["cancel_task"], cancelled)
    assert [result["code"] for result in cancelled.json()["result"]] == ["not_an_image"]
    refused = await web.client.post("/async-batch-caption", files=files[1:])
    finished = await web.client.delete(f"/async-batch-caption/{refused.json()['task_id']}")
    assert finished.json()["code"] == "task_finished"
    check(BY_NAME["cancel_task"], finished)
    for path, method in (("status/x", "GET"), ("x", "DELETE")):
        unknown = await web.client.request(method, f"/async-batch-caption/{path}")
        assert unknown.json()["code"] == "task_not_found"
        check(BY_NAME["task_status"], unknown)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "error",
    [
        error
        for error in BY_NAME["caption"].errors
        if error not in {InvalidRequest, ModelNotReady, *ADMISSION}
    ],
    ids=lambda error: error.code,
)
async def test_an_image_that_is_refused(web: WebProcess, error: type[CaptiondError]) -> None:
    """One image's error is the answer to its request. Among several it is in its result."""
    refused = Refused.of(error("why"))
    single = await answered(web, BY_NAME["caption"], refused, "image")
    assert (single.status_code, single.json()["code"]) == (error.status, error.code)
    assert single.json()["detail"] == "why"
    check(BY_NAME["caption"], single)
    batch = await answered(web, BY_NAME["batch_caption"], refused, "images")
    if error is QueueFull:  # it is the answer to every image of the request
        assert (batch.status_code, batch.json()["code"]) == (503, "queue_full")
        assert "Retry-After" in batch.headers
    else:
        assert batch.json()["results"][0]["code"] == error.code
    check(BY_NAME["batch_caption"], batch)


FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("malformed_body", {"content": b"--edge\r\n", "headers": FORM}),
    ("invalid_request", {"files": {"wrong": ("a.png", PNG)}}),
    ("invalid_request", {"data": {"num_beams": "99"}}),
    ("invalid_request", {"json": {}}),
    ("body_too_large", {"content": bytes(200_000), "headers": FORM}),
    ("too_many_files", {"number": 4}),
    ("upload_timeout", {"number": 1, "upload_seconds": 1e-6}),
]


@pytest.mark.parametrize("name", ["caption", "batch_caption", "async_batch_caption"])
@pytest.mark.parametrize(("code", "request_"), WRONG)
async def test_a_request_that_is_refused(
    store: Engine, tmp_path: Path, name: str, code: str, request_: dict[str, Any]
) -> None:
    operation, request = BY_NAME[name], dict(request_)
    assert operation.form is not None
    if number := request.pop("number", 0):
        request["files"] = [(operation.form.field, ("a.png", PNG))] * number
    limits = LimitSettings(
        files=3,
        body_bytes=100_000,
        file_bytes=10_000,
        upload_seconds=request.pop("upload_seconds", 30),
    )
    async with web_process(store, tmp_path, limits=limits) as web:
        response = await web.client.post(operation.path, **request)
        assert response.json()["code"] == code
        check(operation, response)
        assert list(web.spool.iterdir()) == []


async def test_a_task_that_is_refused(store: Engine, tmp_path: Path) -> None:
    operation, files = BY_NAME["async_batch_caption"], {"images": ("a.png", PNG)}
    webhooks = WebhookSettings(allow=("good",), secret=SecretStr(SECRET))
    limits = LimitSettings(queued_images=1)
    async with web_process(store, tmp_path, limits=limits, webhooks=webhooks) as web:

        async def send(key: str = "k", **data: str) -> str:
            headers = {"Idempotency-Key": key}
            response = await web.client.post(
                operation.path, files=files, headers=headers, data=data
            )
            check(operation, response)
            code: str = response.json().get("code", "")
            return code

        assert await send("with space") == "bad_idempotency_key"
        assert await send(callback_url="http://bad/") == "invalid_request"
        await web.set_state(State(draining=True))
        assert await send() == "draining"
        await web.set_state(HEALTHY)
        assert list(web.spool.iterdir()) == []
        assert await send(callback_url="http://good/") == ""
        assert await send("another") == "queue_full"


async def test_a_key_with_other_content_is_refused(web: WebProcess) -> None:
    operation = BY_NAME["async_batch_caption"]
    for content, status in ((PNG, 202), (PNG, 202), (PNG + b"2", 422)):
        response = await web.client.post(
            operation.path,
            files={"images": ("a.png", content)},
            headers={"Idempotency-Key": "k"},
        )
        assert response.status_code == status
        check(operation, response)


async def test_a_large_file_is_refused(store: Engine, tmp_path: Path) -> None:
    limits = LimitSettings(file_bytes=1000)
    async with web_process(store, tmp_path, limits=limits) as web:
        files = {"image": ("a.png", PNG + bytes(2000))}
        response = await web.client.post("/caption", files=files)
        assert (response.status_code, response.json()["code"]) == (413, "file_too_large")
        check(BY_NAME["caption"], response)


@pytest.mark.parametrize("name", WAITS_FOR_IMAGE)
@pytest.mark.parametrize("state", [State(), State(draining=True)], ids=["starting", "draining"])
async def test_a_service_that_is_not_ready(web: WebProcess, name: str, state: State) -> None:
    await web.set_state(state)
    operation = BY_NAME[name]
    assert operation.form is not None
    response = await web.client.post(operation.path, files={operation.form.field: ("a", PNG)})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert ("reasons" in response.json()) == (not state.draining)
    check(operation, response)


# ---------------------------------------------------------------- Retry-After


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (StoreBusy("why"), "5"),
        (NoSpace("why"), "30"),
        (QueueFull("why", retry_after=7), "7"),
        (Draining("why"), "5"),
        (SpoolError("why"), None),
    ],
)
async def test_an_error_that_may_pass_says_when(
    web: WebProcess, monkeypatch: pytest.MonkeyPatch, error: CaptiondError, seconds: str | None
) -> None:
    async def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(type(web.services.statuses), "status", fail)
    response = await web.client.get("/async-batch-caption/status/x")
    assert (response.status_code, response.json()["code"]) == (error.status, error.code)
    assert response.headers.get("retry-after") == seconds


@pytest.mark.parametrize(("refused", "seconds"), [(WorkerLost, "5"), (SpoolError, None)])
async def test_an_image_whose_error_may_pass_says_when(
    web: WebProcess, refused: type[CaptiondError], seconds: str | None
) -> None:
    response = await answered(web, BY_NAME["caption"], Refused.of(refused("why")), "image")
    assert response.headers.get("retry-after") == seconds


# ---------------------------------------------------------------- paths and methods


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_another_method_is_405_with_the_allowed_ones(
    web: WebProcess, operation: Operation
) -> None:
    response = await web.client.request("PATCH", path_of(operation))
    assert (response.status_code, code_of(operation, response)) == (405, "method_not_allowed")
    allowed = {"GET", "HEAD"} if operation.method == "GET" else {operation.method}
    assert set(response.headers["allow"].split(", ")) == allowed
    check_type(operation.error_form.schema, response)


async def test_an_unknown_path_is_404(web: WebProcess) -> None:
    response = await web.client.get("/nowhere")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    check_type(ErrorResponse, response)


async def test_bodies_are_encoded_as_starlette_encodes_them(web: WebProcess) -> None:
    response = await answered(web, BY_NAME["batch_caption"], CAPTION, "images")
    text = json.dumps(response.json(), ensure_ascii=False, separators=(",", ":"))
    assert response.content == text.encode()

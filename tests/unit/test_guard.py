"""Keys, scopes and limits at each operation of the web application."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from captiond.bench.load import HEAD
from captiond.clients import Client
from captiond.jobs import Captioned
from captiond.keys import Key, Limits, Scope, digest_of, new_secret
from captiond.messages import Answer, Ask
from captiond.settings.client_settings import ClientSettings
from captiond.store import tasks
from captiond.store.engine import Engine
from captiond.web.access.allowances import within_share
from captiond.web.operation import Operation
from captiond.web.operations import OPERATIONS
from tests.answers import BY_NAME, check, code_of, path_of
from tests.unit.webprocess import PNG, WebProcess, web_process

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
GUARDED = [operation for operation in OPERATIONS if operation.scope is not None]
SECRET = new_secret()
UNLIMITED = Limits()


def made(secret: str = SECRET, *scopes: Scope, limits: Limits = UNLIMITED) -> Key:
    chosen = frozenset(scopes or (Scope.CAPTION, Scope.READ))
    return Key("k", digest_of(secret.encode()), scopes=chosen, limits=limits)


def bearer(secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
async def web(store: Engine, tmp_path: Path) -> AsyncIterator[WebProcess]:
    async with web_process(store, tmp_path, clients=ClientSettings(lists="own")) as process:
        yield process


async def send(
    web: WebProcess, operation: Operation, headers: dict[str, str] | dict[bytes, bytes]
) -> httpx.Response:
    """Send a request for an unknown task, or one without its form: no work follows."""
    return await web.request(operation.method, path_of(operation), headers)


def is_admitted(operation: Operation, response: httpx.Response) -> bool:
    """Return whether a request got past the guard: it has an answer, or it lacks its form."""
    if operation.method == "GET" and "{" not in operation.path:
        return response.is_success
    of_body = "invalid_request" if operation.dialect is None else "malformed_body"
    unknown = {
        "{task_id}": "task_not_found",
        "{import_id}": "import_not_found",
        "{model}": "model_not_found",
    }
    expected = next((unknown[name] for name in unknown if name in operation.path), of_body)
    return code_of(operation, response) == expected


# ---------------------------------------------------------------- keys


def test_what_needs_no_key() -> None:
    """Probes and the page: they change nothing, and a load balancer has no key."""
    open_to_all = {operation.path for operation in OPERATIONS if operation.scope is None}
    pages = {"/", "/docs", "/openapi.json"}
    assert open_to_all == {*pages, "/health", "/livez", "/readyz", "/version", "/api/version"}


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: operation.name)
async def test_without_keys_everyone_may(web: WebProcess, operation: Operation) -> None:
    for headers in ({}, bearer("whatever"), {"X-API-Key": "whatever"}):
        assert is_admitted(operation, await send(web, operation, headers))


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: operation.name)
async def test_with_keys_a_request_needs_one(web: WebProcess, operation: Operation) -> None:
    await web.set_keys(made(SECRET, *Scope))
    for headers in (
        {},
        bearer("x"),
        bearer(SECRET + "x"),
        bearer(SECRET.upper()),
        {"Authorization": SECRET},
        {"Authorization": f"Basic {SECRET}"},
        {"X-API-Key": SECRET[:-1]},
        {**bearer(), "X-API-Key": "another"},
        {b"X-API-Key": b"cpd_\xff\xfe\xfc" + bytes(range(128, 160))},
        {b"Authorization": b"Bearer \xc3\xbc" + SECRET.encode()},
    ):
        response = await send(web, operation, headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert SECRET not in response.text
        check(operation, response)
    for headers in (bearer(), {"X-API-Key": SECRET}, {**bearer(), "X-API-Key": SECRET}):
        assert is_admitted(operation, await send(web, operation, headers))


@pytest.mark.parametrize("operation", GUARDED, ids=lambda operation: operation.name)
@pytest.mark.parametrize("scope", Scope)
async def test_a_key_needs_the_scope(web: WebProcess, operation: Operation, scope: Scope) -> None:
    await web.set_keys(made(SECRET, scope))
    response = await send(web, operation, bearer())
    if scope in {operation.scope, Scope.ADMIN}:
        assert is_admitted(operation, response)
    else:
        assert response.status_code == 403
        check(operation, response)


async def test_a_revoked_key_is_refused_from_then_on(web: WebProcess) -> None:
    """Also when it was the last key: the service does not become open."""
    await web.set_keys(made())
    assert (await send(web, BY_NAME["task_status"], bearer())).status_code == 404
    await web.set_keys()
    assert (await send(web, BY_NAME["task_status"], bearer())).status_code == 401


async def test_probes_and_the_page_need_no_key(web: WebProcess) -> None:
    await web.set_keys(made())
    for path in ("/", "/health", "/livez", "/readyz", "/version"):
        assert (await web.client.get(path)).status_code == 200
    assert (await web.client.get("/nothing")).status_code == 404
    assert (await web.client.get("/caption")).status_code == 405


# ---------------------------------------------------------------- limits


def caption(web: WebProcess, **headers: str) -> "asyncio.Task[httpx.Response]":
    files = {"image": ("a.png", PNG)}
    return asyncio.create_task(web.client.post("/caption", files=files, headers=headers))


async def captioned(web: WebProcess, **headers: str) -> httpx.Response:
    sending = caption(web, **headers)
    await web.answer(CAPTION)
    return await sending


def limited(response: httpx.Response, why: str) -> bool:
    check(BY_NAME["caption"], response)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    return why in response.json()["detail"]


async def test_requests_in_a_window(store: Engine, tmp_path: Path) -> None:
    settings = ClientSettings(requests=3, window_seconds=3600)
    async with web_process(store, tmp_path, clients=settings) as web:
        for _ in range(3):
            assert (await captioned(web)).status_code == 200
        assert limited(await caption(web), "3 requests in 3600 seconds")
        assert (await web.client.get("/health")).status_code == 200


async def test_requests_with_a_wrong_key_count_against_the_address(
    store: Engine, tmp_path: Path
) -> None:
    settings = ClientSettings(requests=3, window_seconds=3600)
    async with web_process(store, tmp_path, clients=settings) as web:
        await web.set_keys(made())
        statuses = [(await caption(web, **bearer("wrong"))).status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert (await captioned(web, **bearer())).status_code == 200


async def test_requests_beyond_the_scopes_of_a_key_count_against_it(
    store: Engine, tmp_path: Path
) -> None:
    settings = ClientSettings(requests=3, window_seconds=3600)
    async with web_process(store, tmp_path, clients=settings) as web:
        await web.set_keys(made(SECRET, Scope.READ))
        with capture_logs() as logs:
            statuses = [(await caption(web, **bearer())).status_code for _ in range(4)]
        assert statuses == [403, 403, 403, 429]
        assert {entry["key"] for entry in logs if entry["event"] == "request"} == {"k"}


async def test_a_key_has_its_own_limits(store: Engine, tmp_path: Path) -> None:
    settings = ClientSettings(requests=1, window_seconds=3600)
    async with web_process(store, tmp_path, clients=settings) as web:
        other = new_secret()
        await web.set_keys(made(), made(other, limits=Limits(requests=0)))
        assert (await captioned(web, **bearer())).status_code == 200
        assert limited(await caption(web, **bearer()), "1 requests in")
        for _ in range(3):
            assert (await captioned(web, **bearer(other))).status_code == 200


async def test_simultaneous_requests_and_waiting_images(store: Engine, tmp_path: Path) -> None:
    settings = ClientSettings(concurrent=2, images=2)
    async with web_process(store, tmp_path, clients=settings) as web:
        running = [caption(web), caption(web)]
        asks: list[Ask] = [await web.message(Ask), await web.message(Ask)]
        assert limited(await caption(web), "2 requests at the same time")
        web.channel.send(Answer(asks[0].ticket, CAPTION))
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status_code for task in done] == [200]
        files = [("images", (f"{n}.png", PNG)) for n in range(2)]
        response = await web.client.post("/batch-caption", files=files)
        assert "2 waiting images" in response.json()["detail"]
        check(BY_NAME["batch_caption"], response)
        alone = await web.client.post("/batch-caption", files=[*files, *files])
        assert never_accepted(alone, 422, "too_many_images")
        assert "4 images; at most 2 of this client" in alone.json()["detail"]
        web.channel.send(Answer(asks[1].ticket, CAPTION))
        assert [(await task).status_code for task in running] == [200, 200]
        assert (await captioned(web)).status_code == 200


async def test_bytes_of_bodies(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path, clients=ClientSettings(body_bytes=2**20)) as web:
        large = {"image": ("a.png", PNG + bytes(2**20))}
        response = await web.client.post("/caption", files=large)
        assert never_accepted(response, 413, "client_body_too_large")
        assert "over 1 MiB (1048576 bytes)" in response.json()["detail"]

        async def chunks() -> AsyncIterator[bytes]:
            yield HEAD
            for _ in range(40):
                yield bytes(2**15)

        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        response = await web.client.post("/caption", content=chunks(), headers=headers)
        assert never_accepted(response, 413, "client_body_too_large")
        half = {"image": ("a.png", PNG + bytes(2**19))}
        first = asyncio.create_task(web.client.post("/caption", files=half))
        ask: Ask = await web.message(Ask)
        assert limited(
            await web.client.post("/caption", files=half), "1 MiB (1048576 bytes) in request bodies"
        )
        web.channel.send(Answer(ask.ticket, CAPTION))
        assert (await first).status_code == 200
        assert (await captioned(web)).status_code == 200


def never_accepted(response: httpx.Response, status: int, code: str) -> bool:
    """Hold that an answer does not ask the client to send the same again."""
    assert "retry-after" not in response.headers
    return (response.status_code, response.json()["code"]) == (status, code)


async def test_images_of_tasks(store: Engine, tmp_path: Path) -> None:
    async with web_process(store, tmp_path, clients=ClientSettings(images=3)) as web:

        async def send_task(number: int) -> httpx.Response:
            files = [("images", (f"{n}.png", PNG)) for n in range(number)]
            return await web.client.post("/async-batch-caption", files=files)

        alone = await send_task(4)
        check(BY_NAME["async_batch_caption"], alone)
        assert never_accepted(alone, 422, "too_many_images")
        assert (await send_task(2)).status_code == 202
        refused = await send_task(2)
        check(BY_NAME["async_batch_caption"], refused)
        assert (
            refused.json()["detail"] == "2 images of this client wait in tasks; at most 3 may wait"
        )
        assert (await send_task(1)).status_code == 202
        assert (await send_task(1)).status_code == 429


@pytest.mark.parametrize(
    ("images", "share", "queue", "most"),
    [
        (None, 1.0, 1000, 0),
        (0, 1.0, 1000, 0),
        (50, 1.0, 1000, 50),
        (50, 0.1, 1000, 50),
        (500, 0.1, 1000, 100),
        (None, 0.1, 1000, 100),
        (None, 0.001, 10, 1),
    ],
)
def test_a_key_fills_its_share_of_a_queue(
    images: int | None, share: float, queue: int, most: int
) -> None:
    assert within_share(images, share, queue) == most


async def test_a_key_is_the_client_of_its_images(web: WebProcess) -> None:
    """Fair turns and the cache go by the client and its weight."""
    heavy = replace(made(), weight=3.0)
    await web.set_keys(heavy)
    sending = caption(web, **bearer())
    ask: Ask = await web.message(Ask)
    assert ask.client == Client(f"key:{heavy.id}", 3.0)
    web.channel.send(Answer(ask.ticket, CAPTION))
    assert (await sending).status_code == 200
    task_id = await make_task(web, **bearer())
    assert await tasks.owner_of(web.services.engine, task_id) == heavy.client.name


# ---------------------------------------------------------------- owners


async def make_task(web: WebProcess, **headers: str) -> str:
    files = {"images": ("a.png", PNG)}
    response = await web.client.post("/async-batch-caption", files=files, headers=headers)
    assert response.status_code == 202, response.text
    task_id: str = response.json()["task_id"]
    return task_id


async def test_a_task_belongs_to_its_key(web: WebProcess) -> None:
    other, admin = new_secret(), new_secret()
    await web.set_keys(made(), made(other), made(admin, Scope.ADMIN))
    task_id = await make_task(web, **bearer())
    status, cancel = f"/async-batch-caption/status/{task_id}", f"/async-batch-caption/{task_id}"
    unknown = await web.client.get(status.replace(task_id, "task_1_ab"), headers=bearer(other))
    for response in (
        await web.client.get(status, headers=bearer(other)),
        await web.client.delete(cancel, headers=bearer(other)),
    ):
        assert response.status_code == unknown.status_code == 404
        same = {"detail", "code"}
        assert {name: response.json()[name] for name in same} == {
            name: unknown.json()[name] for name in same
        }
    for secret in (SECRET, admin):
        response = await web.client.get(status, headers=bearer(secret))
        assert response.json()["status"] == "PENDING"
    assert (await web.client.delete(cancel, headers=bearer(admin))).status_code == 200


async def test_results_need_the_scope_read(web: WebProcess) -> None:
    """A key that may only send tasks sees that its own is cancelled, and no results."""
    sender, both = new_secret(), new_secret()
    await web.set_keys(made(sender, Scope.CAPTION), made(both))
    two = [("images", ("a.png", PNG)), ("images", ("b.png", b"no image"))]
    for secret, results in ((sender, 0), (both, 1)):
        sent = await web.client.post("/async-batch-caption", files=two, headers=bearer(secret))
        path = f"/async-batch-caption/{sent.json()['task_id']}"
        cancelled = await web.client.delete(path, headers=bearer(secret))
        check(BY_NAME["cancel_task"], cancelled)
        assert cancelled.json()["status"] == "CANCELLED"
        assert len(cancelled.json()["result"]) == results


async def test_without_keys_a_task_belongs_to_whoever_knows_its_id(web: WebProcess) -> None:
    task_id = await make_task(web)
    assert (await web.client.get(f"/async-batch-caption/status/{task_id}")).status_code == 200


async def test_each_client_has_its_own_idempotency_keys(web: WebProcess) -> None:
    other = new_secret()
    await web.set_keys(made(), made(other))
    own = {"Idempotency-Key": "one"}
    first = await make_task(web, **bearer(), **own)
    assert await make_task(web, **bearer(), **own) == first
    second = await make_task(web, **bearer(other), **own)
    assert second != first
    assert await make_task(web, **bearer(other), **own) == second


async def test_the_log_has_the_name_of_a_key_and_never_the_key(web: WebProcess) -> None:
    await web.set_keys(made())
    with capture_logs() as logs:
        await send(web, BY_NAME["task_status"], bearer())
        await send(web, BY_NAME["task_status"], bearer(SECRET + "x"))
        await web.client.get("/health", headers=bearer())
    requests = [entry for entry in logs if entry["event"] == "request"]
    assert [entry.get("key") for entry in requests] == ["k", None, None]
    assert SECRET not in str(logs)
    assert made().digest.hex() not in str(logs)

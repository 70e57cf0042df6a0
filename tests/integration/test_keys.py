"""Keys and limits in a running service with two web processes, and the commands for keys."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from typer.testing import CliRunner, Result

from captiond.cli.main import app
from captiond.errors import KeyExists, KeyNotFound, SettingsError
from captiond.keys import Key, digest_of, new_secret
from captiond.store.credentials import add_key, revoke_key
from captiond.store.engine import Engine, make_engine
from tests.conftest import png
from tests.patience import PATIENCE
from tests.service import Service, http_client, running_without_model, wait_for

STATUS = "/async-batch-caption/status/task_1_ab"
WINDOW_REQUESTS = 20
MUCH = 4 * 1024 * 1024  # bytes; so many are not kept in memory, so that there is a spool file
SECONDS = 1.0 if os.environ.get("FAULT_SOAK") else 10.0  # until a revoked key is refused

# Each of its requests has a connection of its own, so that any of the processes answers.
ONE_REQUEST_EACH = http_client(limits=httpx.Limits(max_keepalive_connections=0))


@pytest.fixture(scope="module")
def operator() -> str:
    return new_secret()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, operator: str) -> Iterator[Service]:
    """A service with keys and two web processes, whose model never comes."""
    data = tmp_path_factory.mktemp("keys") / "data"
    named = json.dumps({"operator": {"key": operator, "scopes": ["admin"]}})
    with running_without_model(data, "--workers", "2", CAPTIOND_KEYS__NAMED=named) as service:
        wait_for(lambda: len(service.children("web")) == 2, "two web processes")
        yield service
        assert service.stop() == 0
        assert operator not in service.log_text


def in_database(data: Path, change: Callable[[Engine], Awaitable[None]]) -> None:
    async def run() -> None:
        engine = make_engine(data / "captiond.db")
        try:
            await change(engine)
        finally:
            await engine.dispose()

    asyncio.run(run())


def created(service: Service, name: str) -> str:
    """Create a key in the database, and wait until both processes let it in."""
    secret = new_secret()
    key = Key(name, digest_of(secret.encode()))
    in_database(service.data, lambda engine: add_key(engine, key, now=time.time()))
    wait_for(lambda: set(statuses(service, secret)) == {404}, "a valid key")
    return secret


def get(service: Service, secret: str) -> int:
    """Return the status of one request for an unknown task."""
    headers = {"X-API-Key": secret}
    return ONE_REQUEST_EACH.get(service.url + STATUS, headers=headers).status_code


def statuses(service: Service, secret: str, number: int = 16) -> list[int]:
    return [get(service, secret) for _ in range(number)]


def processes(service: Service, status: int) -> set[str]:
    """Return which processes have answered with this status, without the random part."""
    entries = [entry for entry in service.logged("request") if entry["status"] == status]
    return {entry["process"].partition("-")[0] for entry in entries}


def answered_by_both(service: Service, secret: str, status: int) -> bool:
    """Send some requests, and return whether both processes have answered so."""
    statuses(service, secret)
    return len(processes(service, status)) == 2


@contextmanager
def slow_upload(service: Service, secret: str) -> Iterator[Callable[[], httpx.Response]]:
    """Begin to send a task; the call sends the rest and returns the response."""
    rest = threading.Event()
    responses: list[httpx.Response] = []
    image = png(1)
    head = b'--edge\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head + image + bytes(MUCH)
        rest.wait(PATIENCE)
        yield b"\r\n--edge--\r\n"

    def send() -> None:
        headers = {
            "X-API-Key": secret,
            "Content-Type": "multipart/form-data; boundary=edge",
        }
        with http_client(base_url=service.url) as client:
            answer = client.post("/async-batch-caption", content=body(), headers=headers)
        responses.append(answer)

    sending = threading.Thread(target=send)
    sending.start()

    def finish() -> httpx.Response:
        rest.set()
        sending.join(PATIENCE)
        return responses[0]

    try:
        yield finish
    finally:
        rest.set()
        sending.join(PATIENCE)


def test_a_revoked_key_is_refused_by_all_processes(closed: Service) -> None:
    """A request that is in progress is finished; the next one of its client is refused."""
    secret = created(closed, "revoked")
    wait_for(partial(answered_by_both, closed, secret, 404), "an answer of each process")
    with slow_upload(closed, secret) as finish:
        wait_for(lambda: list((closed.data / "spool").iterdir()), "the beginning of an upload")
        in_database(closed.data, lambda engine: revoke_key(engine, "revoked", now=time.time()))
        begun = last = time.monotonic()
        while time.monotonic() < last + 1.0:
            if get(closed, secret) == 404:
                last = time.monotonic()
            assert last - begun < SECONDS
        print(f"a revoked key was refused after {last - begun:.2f} s")  # noqa: T201
        assert finish().status_code == 202
    assert set(statuses(closed, secret)) == {401}
    wait_for(partial(answered_by_both, closed, secret, 401), "an answer of each process")


def test_a_task_is_for_its_key_and_for_the_operator(closed: Service, operator: str) -> None:
    first, second = created(closed, "first"), created(closed, "second")

    def send(secret: str) -> str:
        files = {"images": ("a.png", png(2))}
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "the-same"}
        response = closed.client.post("/async-batch-caption", files=files, headers=headers)
        task_id: str = response.json()["task_id"]
        return task_id

    task_id = send(first)
    assert send(first) == task_id
    assert send(second) != task_id
    path = f"/async-batch-caption/status/{task_id}"
    seen = {
        secret: closed.client.get(path, headers={"X-API-Key": secret}).status_code
        for secret in (first, second, operator, "none")
    }
    assert seen == {first: 200, second: 404, operator: 200, "none": 401}


def test_bytes_that_are_no_key_are_refused(closed: Service) -> None:
    for header in (
        b"X-API-Key: cpd_\xff\xfe\x80",
        b"Authorization: Bearer \xc3\xbc\xc3\xa4",
        b"Authorization: bearer",
        b"X-API-Key: " + b"x" * 10_000,
    ):
        assert answer_to(closed, header).startswith(b"HTTP/1.1 401 ")


def answer_to(service: Service, header: bytes) -> bytes:
    """Return the response to a request with these bytes as a header."""
    address = urlsplit(service.url)
    request = f"GET {STATUS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(request + header + b"\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_limits_hold_for_all_processes_together(data: Path) -> None:
    with running_without_model(
        data,
        "--workers",
        "2",
        CAPTIOND_CLIENTS__REQUESTS=str(WINDOW_REQUESTS),
        CAPTIOND_CLIENTS__WINDOW_SECONDS="3600",
    ) as service:
        wait_for(lambda: len(service.children("web")) == 2, "two web processes")
        answered = statuses(service, "", 3 * WINDOW_REQUESTS)
        assert answered.count(404) == WINDOW_REQUESTS
        assert answered.count(429) == 2 * WINDOW_REQUESTS
        wait_for(partial(answered_by_both, service, "", 429), "an answer of each process")
        assert service.client.get("/livez").status_code == 200
        assert service.stop() == 0


# ---------------------------------------------------------------- commands


def keys(data: Path, *arguments: str) -> Result:
    """Run a command in this process. Errors that `captiond` prints are raised."""
    command = ["keys", *arguments, "--data-dir", str(data)]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def listed(data: Path, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in keys(data, "list", *arguments).stdout.splitlines()]


def test_a_key_is_created_listed_and_revoked(data: Path) -> None:
    """Also before the first start of a service."""
    secret = keys(data, "create", "frontend", "--scope", "read", "--requests", "5").stdout.strip()
    (key,) = listed(data)
    expected = Key("frontend", digest_of(secret.encode()))
    assert key.pop("created_at")
    assert key == {
        "name": "frontend",
        "id": expected.id,
        "scopes": ["read"],
        "limits": {"requests": 5},
        "weight": 1.0,
        "share": 1.0,
        "source": "database",
        "revoked_at": None,
    }
    with pytest.raises(KeyExists):
        keys(data, "create", "frontend")
    assert keys(data, "revoke", "frontend").stdout == "frontend: revoked\n"
    assert [each["revoked_at"] is not None for each in listed(data)] == [True]
    assert keys(data, "revoke", "frontend", "--delete").stdout == "frontend: deleted\n"
    with pytest.raises(KeyNotFound):
        keys(data, "revoke", "frontend")
    with pytest.raises(SettingsError, match="letters, digits"):
        keys(data, "create", "a b")


def test_an_entry_for_a_file_has_the_hash(data: Path) -> None:
    result = keys(data, "create", "--print", "frontend", "--weight", "2")
    assert not data.exists()
    file = data.parent / "keys.toml"
    file.write_text(result.stdout)
    secret = result.stderr.split()[-1]
    assert secret not in result.stdout
    (key,) = listed(data, "--set", f"keys.file={file}")
    assert (key["source"], key["weight"]) == (str(file), 2.0)
    assert key["id"] == Key("", digest_of(secret.encode())).id

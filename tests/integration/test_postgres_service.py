"""The service on a real PostgreSQL server: kills and restarts lose nothing and double nothing."""

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.commands import command
from tests.conftest import png
from tests.on_postgres import check_each_once, on, send
from tests.postgres import PostgresServer, postgres_server
from tests.s3server import S3Server
from tests.service import FRESH, Service, captiond, running, running_without_model, wait_for

NO_VARIABLES: Mapping[str, str] = {}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as postgres:
        yield postgres


@pytest.fixture
def name(server: PostgresServer) -> str:
    """The name of an empty database."""
    return server.create_database()


def captions(task: dict[str, Any]) -> list[bool]:
    return [result["caption"] is not None for result in task["result"]]


@dataclass
class Served:
    """A running service, its database, and the number of images of each task."""

    service: Service
    name: str
    accepted: dict[str, int] = field(default_factory=dict)

    def send(self, first: int, images: int) -> str:
        task = send(self.service, first, images)
        self.accepted[task] = images
        return task


@pytest.fixture(scope="module")
def served(
    server: PostgresServer, s3: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A service for all tests after which it works as before. At its end, nothing is lost.

    Its uploads are in object storage, so that others can share its database.
    """
    name, data = server.create_database(), tmp_path_factory.mktemp("served") / "data"
    settings = {**on(server, name), **s3.environ(), "CAPTIOND_DATABASE__CONNECT_SECONDS": "1"}
    with running(data, **settings) as service:
        made = Served(service, name)
        yield made
        assert service.stop() == 0
    s3.clear()  # of the mark that says whose prefix it is
    check_each_once(server, name, made.accepted)
    assert server.execute("SELECT id FROM nodes", name) == []
    assert not (data / "captiond.db").exists()


def test_a_killed_model_process_and_a_restarted_server_lose_nothing(
    server: PostgresServer, served: Served
) -> None:
    service = served.service
    with service.suspended_model():
        first = served.send(0, 6)
        wait_for(lambda: service.task(first)["status"] == "PROCESSING", "a claim")
        service.child("model").kill()
    assert captions(service.finished(first)) == [True] * 6
    second = served.send(100, 40)
    server.restart(signal.SIGQUIT)  # as after a crash
    third = served.send(200, 5)
    assert captions(service.finished(second)) == [True] * 40
    assert captions(service.finished(third)) == [True] * 5
    assert service.client.get("/metrics").text.count("captiond_database_bytes") > 0


def test_a_service_outlives_a_server_that_is_away(server: PostgresServer, served: Served) -> None:
    service, task = served.service, served.send(300, 2)
    service.finished(task)
    server.stop()
    try:
        answer = service.client.get(f"/async-batch-caption/status/{task}")
        refused = service.client.post("/async-batch-caption", files={"images": ("a", png(1))})
        assert (answer.status_code, refused.status_code) == (503, 503)
        assert refused.json()["code"] == "store_busy"
        assert "Retry-After" in refused.headers
        # What needs no database goes on.
        caption = service.client.post("/caption", files={"image": ("a.png", png(3))})
        assert caption.status_code == 200
        assert service.client.get("/livez").is_success
    finally:
        server.start()
    assert captions(service.finished(served.send(310, 3))) == [True] * 3


def test_two_services_share_a_database(
    server: PostgresServer, served: Served, s3: S3Server, tmp_path: Path
) -> None:
    """A task is claimed by whichever service has a model, and each image by one of them."""
    shared = {**on(server, served.name), **s3.environ()}
    with running_without_model(tmp_path / "one", **shared) as one:
        task = served.send(400, 3)
        assert captions(served.service.finished(task)) == [True] * 3
        assert one.task(task)["status"] == "COMPLETED"
        spools = [tmp_path / "one" / "spool", served.service.data / "spool"]
        assert [list(spool.iterdir()) for spool in spools] == [[], []]
        assert one.stop() == 0


def test_commands_use_the_server(server: PostgresServer, name: str, data: Path) -> None:
    url = {"CAPTIOND_DATABASE__URL": server.url(name)}
    place = f"postgresql+psycopg://captiond@/{name}?host={server.folder}&port=5432"

    def run(*arguments: str, code: int = 0, by: Run = command, **environ: str) -> str:
        done = by(*arguments, "--data-dir", str(data), cwd=data.parent, **{**url, **environ})
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert f"{place}: its tables will be created at the first start" in run(
        "check", code=1, by=captiond
    )
    assert f"{place}: upgraded from revision None" in run("db", "upgrade", by=captiond)
    assert f"{place}: is up to date" in run("db", "upgrade")
    assert run("keys", "create", "one")
    assert "one" in run("keys", "list")
    assert f"{place}: ok: 0 tasks" in run("db", "check")
    assert "pg_dump" in run("db", "backup", "copy.db", code=1)
    assert run("tasks", "list") is not None
    away = "postgresql+psycopg://captiond:hunter2@/x?host=/nowhere"
    settings = {"CAPTIOND_DATABASE__URL": away, "CAPTIOND_DATABASE__CONNECT_SECONDS": "1"}
    for name in ("check", "serve"):
        output = run(name, code=1, by=captiond, **settings)
        assert "captiond:***@/x" in output
        assert "check that the server runs" in output
        assert "hunter2" not in output


def test_a_service_moves_to_a_server_is_killed_there_and_moves_back(
    server: PostgresServer, name: str, data: Path
) -> None:
    """Finished tasks keep their results, and what waits is captioned where it has come to.

    The lease of a killed service has not expired at its next start, but the lock of its data folder
    proves that it is dead.
    """

    def copy(
        url: str, environ: Mapping[str, str] = NO_VARIABLES, *, code: int = 0, by: Run = command
    ) -> str:
        done = by("db", "copy", url, "--data-dir", str(data), cwd=data.parent, **environ)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    there = on(server, name)
    with running(data, **FRESH) as service:
        finished = send(service, 0, 3)
        service.finished(finished)
        assert "in use by the captiond" in copy(server.url(name), code=1)
        with service.suspended_model():
            waits = send(service, 10, 4)
            wait_for(lambda: service.task(waits)["status"] == "PROCESSING", "a claim")
            service.kill()
    output = copy(server.url(name), by=captiond)
    assert "tasks: 2 rows, compared" in output
    assert "images: 7 rows, compared" in output
    assert "not copied: the leases" in output
    with running(data, **there) as service:
        assert captions(service.task(finished)) == [True] * 3
        assert captions(service.finished(waits)) == [True] * 4
        with service.suspended_model():
            again = send(service, 20, 2)
            wait_for(lambda: service.task(again)["status"] == "PROCESSING", "a claim")
            service.kill()
    with running(data, **there) as service:
        assert service.logged("recovered")[0]["requeued"] == 2
        assert captions(service.finished(again)) == [True] * 2
        assert "in use by the captiond" in copy("sqlite:///back.db", there, code=1)
        assert service.stop() == 0
    check_each_once(server, name, {finished: 3, waits: 4, again: 2})
    back = data.parent / "back.db"
    assert "tasks: 3 rows, compared" in copy(f"sqlite:///{back}", there)
    moved_back = {"CAPTIOND_DATABASE__URL": f"sqlite:///{back}"}
    with running_without_model(data, **moved_back) as service:
        for task, images in ((finished, 3), (waits, 4), (again, 2)):
            assert captions(service.task(task)) == [True] * images
        assert service.stop() == 0

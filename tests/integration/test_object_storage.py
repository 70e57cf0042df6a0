"""A service whose uploads of tasks are in object storage, and what happens when things fail."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import command
from tests.conftest import png
from tests.s3server import S3Server, s3_server
from tests.service import (
    FRESH,
    Service,
    captiond,
    check_nothing_lost,
    query,
    running,
    running_without_model,
    upload,
    wait_for,
    wait_until_gone,
)
from tests.wire import Wire, wire

IMAGES = 12


@pytest.fixture(scope="module")
def own_s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def server(own_s3: S3Server) -> Iterator[S3Server]:
    yield own_s3
    own_s3.clear()


@pytest.fixture
def line(server: S3Server) -> Iterator[Wire]:
    with wire(server.endpoint) as made:
        yield made


@dataclass(frozen=True)
class Stored:
    """A running service whose uploads are in a bucket behind a wire.

    `accepted` has the number of images of each task that a test has sent.
    """

    service: Service
    server: S3Server
    line: Wire
    accepted: dict[str, int] = field(default_factory=dict)

    def accept(self, images: int = IMAGES, first: int = 0) -> str:
        task_id = accepted(self.service, images, first)
        self.accepted[task_id] = images
        return task_id


@pytest.fixture(scope="module")
def shared(own_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    data = tmp_path_factory.mktemp("stored") / "data"
    with wire(own_s3.endpoint) as line:
        environ = own_s3.environ(endpoint=line.endpoint)
        with running(data, **FRESH, **environ) as service:
            made = Stored(service, own_s3, line)
            yield made
            assert service.stop() == 0
    check_nothing_lost(data, made.accepted)


@pytest.fixture
def stored(shared: Stored, server: S3Server) -> Stored:
    """A service for all tests after which it works as before. At its end, nothing is lost."""
    assert server is shared.server
    return shared


@pytest.fixture(scope="module")
def waiting(own_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose model never comes."""
    data = tmp_path_factory.mktemp("waiting") / "data"
    with running_without_model(data, **own_s3.environ()) as service:
        yield service


def send(service: Service, images: int = IMAGES, first: int = 0) -> httpx.Response:
    files = [("images", (f"{n}.png", png(first + n))) for n in range(images)]
    return service.client.post("/async-batch-caption", files=files)


def accepted(service: Service, images: int = IMAGES, first: int = 0) -> str:
    response = send(service, images, first)
    assert response.status_code == 202, response.text
    task_id: str = response.json()["task_id"]
    return task_id


def check_captioned(task: dict[str, Any], images: int = IMAGES) -> None:
    assert task["status"] == "COMPLETED"
    assert [result["error"] for result in task["result"]] == [None] * images


def wait_until_empty(server: S3Server) -> None:
    wait_for(lambda: not server.names(), "the removal of all objects")


def test_a_task_is_captioned_from_the_bucket_while_the_model_process_is_killed(
    stored: Stored,
) -> None:
    service, server = stored.service, stored.server
    with service.suspended_model():
        task_id = stored.accept()
        assert len(server.names()) == 1, "it is there before the client has its answer"
        assert list((service.data / "spool").iterdir()) == []
        model = service.child("model")
        model.kill()
        wait_until_gone([model])
    check_captioned(service.finished(task_id))
    wait_until_empty(server)


def test_what_was_accepted_waits_for_a_storage_that_fails(stored: Stored) -> None:
    """New tasks get 503, and calls that wait for their caption do not need the storage."""
    service, line = stored.service, stored.line
    with service.suspended_model():
        first = stored.accept()
        line.cut()
    refused = send(service, first=100)
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert "nothing was accepted" in refused.json()["detail"]
    assert "captiond-test" not in refused.text, "the bucket is the operator's business"
    (entry,) = service.logged("upload_not_stored")
    place = f"s3://captiond-test/uploads/of-tasks: the storage at {line.endpoint} cannot be"
    assert entry["reason"].startswith(f"{place} reached: ")
    service.wait_for_entries("uploads_not_readable", 1)
    image = {"image": upload("red_circle.png")}
    assert service.client.post("/caption", files=image).json()["caption"]
    assert service.task(first)["progress"]["done"] == 0
    line.repair()
    check_captioned(service.finished(first))
    check_captioned(service.finished(stored.accept(first=100)))
    wait_until_empty(stored.server)


def test_a_task_survives_the_death_of_the_whole_service_and_a_start_without_the_storage(
    data: Path, server: S3Server, line: Wire
) -> None:
    """What waits for the storage is captioned once it can be reached, and a stop does not wait."""
    environ = server.environ(endpoint=line.endpoint)
    with running_without_model(data, **environ) as service:
        first = accepted(service)
        tree = service.tree()
        for process in tree:
            process.kill()
        wait_until_gone(tree)
    line.cut()
    with running(data, **FRESH, **environ) as service:
        service.wait_for_entries("storage_failing", 1)
        assert send(service).status_code == 503
        assert service.client.get("/health").status_code == 200
        line.repair()
        check_captioned(service.finished(first))
        second = accepted(service, first=100)
        check_captioned(service.finished(second))
        wait_until_empty(server)
        check_nothing_lost(data, dict.fromkeys((first, second), IMAGES))
        with service.suspended_model():
            third = accepted(service, first=200)
            line.cut()
        service.wait_for_entries("uploads_not_readable", 1)
        assert service.stop() == 0
    waiting = "SELECT task_id, count(*) FROM images WHERE result IS NULL GROUP BY task_id"
    assert query(data, waiting) == [(third, IMAGES)]
    assert query(data, "SELECT spool FROM tasks WHERE spool IS NOT NULL") == [(*server.names(),)]


def test_wrong_credentials_are_told_to_the_operator(data: Path, server: S3Server) -> None:
    wrong = {**server.environ(), "AWS_SECRET_ACCESS_KEY": "wrong"}
    with running_without_model(data, **wrong) as service:
        refused = send(service)
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        (entry,) = service.logged("upload_not_stored")
        assert "SignatureDoesNotMatch" in entry["reason"]
        assert "check the credentials" in entry["reason"]
    checked = command("check", "--data-dir", str(data), cwd=data.parent, **wrong)
    assert checked.returncode == 1
    (found,) = [part for part in checked.stdout.splitlines() if "uploads:" in part]
    assert found.startswith("FAIL")
    assert "SignatureDoesNotMatch" in found
    checked = command("check", "--data-dir", str(data), cwd=data.parent, **server.environ())
    assert f"ok    uploads: {server.settings().url} can be written" in checked.stdout
    assert server.names() == set()


def test_an_object_that_was_deleted_is_the_error_of_its_images_only(stored: Stored) -> None:
    """They can be retried once the operator has put it back."""
    service, server = stored.service, stored.server
    with service.suspended_model():
        lost = stored.accept(images=2)
        (name,) = server.names()
        content = server.get(name)
        server.clear()
        kept = stored.accept(images=2, first=100)
    task = service.finished(lost)
    assert task["status"] == "FAILED"
    assert {result["code"] for result in task["result"]} == {"spool_error"}
    assert "gone from the object storage" in task["result"][0]["error"]
    check_captioned(service.finished(kept), 2)
    server.put(name, content)
    service.client.post(f"/async-batch-caption/{lost}/retry").raise_for_status()
    wait_for(lambda: service.task(lost)["progress"]["failed"] == 0, "the retry to be seen")
    check_captioned(service.finished(lost), 2)


def test_a_cancelled_task_leaves_no_object(waiting: Service, server: S3Server) -> None:
    task_id = accepted(waiting)
    assert len(server.names()) == 1
    waiting.client.delete(f"/async-batch-caption/{task_id}").raise_for_status()
    wait_until_empty(server)


def test_an_upload_of_a_web_process_that_died_is_removed(
    waiting: Service, server: S3Server
) -> None:
    """Its object was stored, and the process was killed before it wrote the row."""
    kept = accepted(waiting)
    (needed,) = server.names()
    owner = needed.partition("/")[0]
    server.put(f"{owner}/{'0' * 32}", b"orphan")
    server.put(f"web0-of-another-machine/{'0' * 32}", b"its upload")
    waiting.child("web").kill()
    wait_for(lambda: len(server.names()) == 2, "the removal of the orphan")
    assert server.names() == {needed, f"web0-of-another-machine/{'0' * 32}"}
    assert waiting.task(kept)["status"] == "PENDING"


def test_tasks_in_the_folder_are_finished_after_the_setting_was_changed(
    data: Path, server: S3Server
) -> None:
    """And back: a task in the bucket needs the setting, and says so."""
    with running_without_model(data) as service:
        in_folder = accepted(service, images=2)
    with running_without_model(data, **server.environ()) as service:
        in_bucket = accepted(service, images=2, first=100)
    with running(data, **FRESH) as service:
        check_captioned(service.finished(in_folder), 2)
        task = service.finished(in_bucket)
        assert "[uploads] url is not set" in task["result"][0]["error"]
        assert service.stop() == 0


def test_the_check_of_the_database_looks_into_the_bucket(data: Path, server: S3Server) -> None:
    with running_without_model(data, **server.environ()) as service:
        task_id = accepted(service)
    (needed,) = server.names()
    environ = server.environ()

    def problems() -> list[str]:
        checked = command("db", "check", "--data-dir", str(data), cwd=data.parent, **environ)
        *found, _ = checked.stdout.splitlines()
        assert checked.returncode == (1 if found else 0), checked.stderr
        return found

    assert problems() == []
    orphan = f"web0-gone/{'0' * 32}"
    server.put(orphan, b"orphan")
    url = server.settings().url
    removal = "the service removes it within hours"
    assert problems() == [f"{url}/{orphan}: belongs to no task; {removal}"]
    server.clear()
    (missing,) = problems()
    assert missing.startswith(f"{url}/{needed}: missing or cut short: the open images of task")
    assert task_id in missing


def test_a_service_does_not_start_in_the_prefix_of_another_one(
    server: S3Server, tmp_path: Path
) -> None:
    """Each would remove the uploads of the other."""
    server.put("captiond-service", b"another one")
    done = captiond("serve", "--port", "0", "--data-dir", "data", cwd=tmp_path, **server.environ())
    assert done.returncode == 1
    assert "captiond-service: another captiond, with another database" in done.stderr

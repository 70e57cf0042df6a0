"""Webhooks to a real receiver: signatures, retries, the last retry, and no delay for others."""

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from captiond.logs import shortened
from tests.commands import command
from tests.conftest import png
from tests.patience import PATIENCE
from tests.queued_import import QueuedImport
from tests.receiver import CERTIFICATE, CLOSE, HANG, Receiver, receiving
from tests.service import (
    Service,
    captiond,
    query,
    running,
    running_without_model,
    upload,
    wait_for,
)
from tests.warmstart import COLD

QUICK = {
    "CAPTIOND_WEBHOOKS__ALLOW": "127.0.0.1,localhost",
    "CAPTIOND_WEBHOOKS__ATTEMPTS": "4",
    "CAPTIOND_WEBHOOKS__FIRST_RETRY_SECONDS": "0.1",
    "CAPTIOND_WEBHOOKS__LONGEST_RETRY_SECONDS": "0.2",
    "CAPTIOND_WEBHOOKS__TIMEOUT_SECONDS": "10",
    "SSL_CERT_FILE": str(CERTIFICATE),
}
PATIENT = {**QUICK, "CAPTIOND_WEBHOOKS__TIMEOUT_SECONDS": "300"}


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that may call this machine, with short delays between retries."""
    with running(tmp_path_factory.mktemp("hooked") / "data", **QUICK, **COLD) as service:
        yield service
        assert service.stop() == 0


def send(service: Service, url: str, *files: tuple[str, bytes]) -> str:
    """Send a task with `url` as its webhook, and return its id."""
    response = service.client.post(
        "/async-batch-caption",
        files=[("images", file) for file in files or [upload("boat_and_sun.png")]],
        data={"callback_url": url},
    )
    assert response.status_code == 202, response.text
    task_id: str = response.json()["task_id"]
    return task_id


def secret_of(service: Service) -> str:
    return (service.data / "webhook-secret").read_text().strip()


def delivery(service: Service, task_id: str) -> tuple[Any, ...]:
    """Return status, attempts, response and error of a task's delivery."""
    columns = "status, attempts, response, error"
    sql = f"SELECT {columns} FROM deliveries WHERE task_id = '{task_id}'"
    (row,) = query(service.data, sql) or [("none", 0, None, None)]
    return tuple(row)


def ended(service: Service, task_id: str) -> tuple[Any, ...]:
    """Wait until the delivery has succeeded or was given up, and return the same."""

    def look() -> tuple[Any, ...] | None:
        row = delivery(service, task_id)
        return row if row[0] in {"DELIVERED", "FAILED"} else None

    return wait_for(look, f"the end of the delivery for {task_id}")


def tries(service: Service, event: str, task_id: str) -> list[dict[str, Any]]:
    return [entry for entry in service.logged(event) if entry["task_id"] == shortened(task_id)]


def test_the_finished_task_is_posted_and_signed(hooked: Service) -> None:
    with receiving() as receiver:
        task_id = send(hooked, receiver.url(path="/hook?to=me"), upload("boat_and_sun.png"))
        (call,) = receiver.wait_for_calls(1)
        assert ended(hooked, task_id) == ("DELIVERED", 1, 204, None)
    payload = call.verified(secret_of(hooked))
    assert payload["type"] == "task.completed"
    assert payload["data"] == hooked.task(task_id)
    assert payload["timestamp"].startswith(payload["data"]["finished_at"][:23])
    assert call.path == "/hook?to=me"
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["webhook-id"].startswith("msg_")
    assert stat.S_IMODE((hooked.data / "webhook-secret").stat().st_mode) == 0o600
    (entry,) = tries(hooked, "webhook_delivered", task_id)
    assert (entry["attempt"], entry["response"]) == (1, 204)
    assert "to=me" not in hooked.log_text, "a URL may hold a token"


def test_a_receiver_that_fails_is_called_until_it_accepts(hooked: Service) -> None:
    with receiving(500, HANG, CLOSE) as receiver:
        task_id = send(hooked, receiver.url())
        calls = receiver.wait_for_calls(4)
        assert ended(hooked, task_id) == ("DELIVERED", 4, 204, None)
    assert len({call.headers["webhook-id"] for call in calls}) == 1
    assert len({call.body for call in calls}) == 1
    for call in calls:
        call.verified(secret_of(hooked))
    reasons = [entry["reason"] for entry in tries(hooked, "webhook_failed", task_id)]
    assert reasons[:2] == ["answered 500", "no answer within 10 s"]
    assert len(reasons) == 3


def test_a_redirect_is_a_failure_and_four_of_them_the_end(hooked: Service) -> None:
    with receiving(302, 307, 301, 308) as receiver:
        receiver.headers["Location"] = receiver.url(path="/elsewhere")
        task_id = send(hooked, receiver.url())
        assert ended(hooked, task_id) == ("FAILED", 4, 308, "answered 308")
        assert {call.path for call in receiver.calls} == {"/hook"}
    (entry,) = tries(hooked, "webhook_given_up", task_id)
    assert entry["attempt"] == 4


def test_a_webhook_that_was_given_up_is_redelivered_by_command(hooked: Service) -> None:
    redeliver = ("tasks", "redeliver", "--data-dir", str(hooked.data))
    with receiving(500, 500, 500, 500) as receiver:
        task_id = send(hooked, receiver.url())
        assert ended(hooked, task_id)[:2] == ("FAILED", 4)
        result = captiond(*redeliver, task_id, cwd=hooked.data)
        assert (result.returncode, result.stdout) == (0, "webhooks to deliver: 1\n")
        calls = receiver.wait_for_calls(5)
        assert ended(hooked, task_id) == ("DELIVERED", 1, 204, None)
        assert len({call.headers["webhook-id"] for call in calls}) == 1
        shown = command("tasks", "show", task_id, "--data-dir", str(hooked.data), cwd=hooked.data)
        (shown_delivery,) = json.loads(shown.stdout)["deliveries"]
        assert shown_delivery["url"] == receiver.url()
        assert (shown_delivery["status"], shown_delivery["response"]) == ("DELIVERED", 204)
    result = command(*redeliver, "task_0", cwd=hooked.data)
    assert result.returncode == 1
    assert result.stderr.startswith("captiond: task_0: there is no webhook of this task")
    assert command(*redeliver, cwd=hooked.data).returncode == 2
    assert command(*redeliver, "--failed", cwd=hooked.data).returncode == 0


def test_gone_is_an_answer(hooked: Service) -> None:
    with receiving(410) as receiver:
        task_id = send(hooked, receiver.url())
        assert ended(hooked, task_id) == ("FAILED", 1, 410, "answered 410")


def test_an_answer_that_is_not_http_is_a_failure(hooked: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        task_id = send(hooked, f"http://127.0.0.1:{server.getsockname()[1]}/")
        connection, _ = server.accept()
        with connection:
            connection.settimeout(PATIENCE)
            connection.sendall(b"220 smtp.example ESMTP\r\n" * 1000)
            wait_for(lambda: bool(tries(hooked, "webhook_failed", task_id)), "the failure")
        server.close()
        assert tries(hooked, "webhook_failed", task_id)[0]["reason"].startswith("not HTTP: ")
        assert ended(hooked, task_id)[0] == "FAILED"


def test_a_certificate_is_checked_for_its_name_and_its_signer(hooked: Service) -> None:
    with receiving(tls=True) as receiver:
        task_id = send(hooked, receiver.url("localhost"))
        (call,) = receiver.wait_for_calls(1)
        call.verified(secret_of(hooked))
        assert ended(hooked, task_id)[0] == "DELIVERED"
        task_id = send(hooked, receiver.url("127.0.0.1"))
        status, attempts, response, error = ended(hooked, task_id)
        assert (status, attempts, response) == ("FAILED", 4, None)
        assert "certificate verify failed" in error
        assert len(receiver.calls) == 1
    assert psutil.Process(hooked.process.pid).memory_info().rss < 100e6


def test_a_webhook_reports_failure_and_cancellation(hooked: Service) -> None:
    with receiving() as receiver:
        send(hooked, receiver.url(), ("bad.png", b"no image"))
        (call,) = receiver.wait_for_calls(1)
        assert call.verified(secret_of(hooked))["type"] == "task.failed"
        model = hooked.child("model")
        model.suspend()  # or the task might be finished before it is cancelled
        task_id = send(hooked, receiver.url(), *[(f"{n}.png", png(n)) for n in range(90)])
        cancelled = hooked.client.delete(f"/async-batch-caption/{task_id}")
        model.resume()
        assert cancelled.status_code == 200
        call = receiver.wait_for_calls(2)[1]
        payload = call.verified(secret_of(hooked))
        assert (payload["type"], payload["data"]["task_id"]) == ("task.cancelled", task_id)
        assert hooked.client.delete(f"/async-batch-caption/{task_id}").status_code == 200
        assert ended(hooked, task_id)[0] == "DELIVERED"
        assert len(receiver.calls) == 2


def test_the_end_of_an_import_is_posted_and_signed(hooked: Service, tmp_path: Path) -> None:
    photos, data = tmp_path / "photos", ("--data-dir", str(hooked.data))
    photos.mkdir()
    (photos / "one.png").write_bytes(png(1))
    with receiving(500) as receiver:
        hook = ("--queue", "--callback-url", receiver.url(path="/hook?to=me"))
        allowed = ("--set", "webhooks.allow=127.0.0.1")
        arguments = ("import", str(photos), "--output", "captions", *hook, *allowed, *data)
        done = captiond(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        import_id = done.stdout.partition(":")[0]
        first, second = receiver.wait_for_calls(2)
        payload = second.verified(secret_of(hooked))
        assert (first.body, second.path) == (second.body, "/hook?to=me")
        assert payload["type"] == "import.completed"
        assert payload["data"] == hooked.client.get(f"/imports/{import_id}").json()
        assert payload["timestamp"].startswith(payload["data"]["finished_at"][:23])
        (entry,) = [
            each
            for each in hooked.wait_for_entries("webhook_delivered", 1)
            if each.get("import_id") == import_id
        ]
        assert (entry["attempt"], entry["response"]) == (2, 204)
        again = command("imports", "redeliver", import_id, *data, cwd=tmp_path)
        assert (again.returncode, again.stdout) == (0, "webhooks to deliver: 1\n")
        assert receiver.wait_for_calls(3)[2].body == second.body
        shown = command("imports", "show", import_id, *data, cwd=tmp_path)
    (delivery,) = json.loads(shown.stdout)["deliveries"]
    assert (delivery["import_id"], delivery["url"]) == (import_id, receiver.url(path="/hook?to=me"))
    assert "task_id" not in delivery


def test_a_cancelled_import_is_posted_once(hooked: Service, tmp_path: Path) -> None:
    with receiving() as receiver, hooked.suspended_model():
        work = QueuedImport(hooked, tmp_path / "a1", 3, shard=2, callback_url=receiver.url())
        for _ in range(2):
            assert hooked.client.post(f"/imports/{work.id}/cancel").status_code == 200
        (call,) = receiver.wait_for_calls(1)
        payload = call.verified(secret_of(hooked))
        assert (payload["type"], payload["data"]["import_id"]) == ("import.cancelled", work.id)
        assert payload["data"]["shards"] == {"total": 2, "open": 0}
    unknown = command(
        "imports", "redeliver", "import_0", "--data-dir", str(hooked.data), cwd=tmp_path
    )
    assert unknown.returncode == 1
    assert "there is no import import_0; captiond imports list" in unknown.stderr


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--callback-url", "http://127.0.0.1/"), "needs --queue"),
        (("--queue", "--callback-url", "http://127.0.0.1/"), "webhooks are off"),
        (
            ("--queue", "--callback-url", "ftp://a", "--set", "webhooks.allow=a"),
            "must begin with https:// or http://",
        ),
    ],
)
def test_an_import_with_a_wrong_callback_url_is_refused(
    tmp_path: Path, flags: tuple[str, ...], reason: str
) -> None:
    refused = command("import", "photos", "--output", "captions", *flags, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("captiond: command line: --callback-url")
    assert reason in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_receiver_that_hangs_delays_nobody_and_is_not_called_when_it_is_no_longer_listed(
    data: Path,
) -> None:
    with receiving(*[HANG] * 99) as dead:
        slow = check_that_nobody_waits_for(dead, data)
        elsewhere = {**QUICK, "CAPTIOND_WEBHOOKS__ALLOW": "example.com"}
        with running_without_model(data, **elsewhere) as service:
            for task_id in slow:
                status, attempts, response, error = ended(service, task_id)
                assert (status, attempts, response) == ("FAILED", 4, None)
                assert error.startswith("not called: ")
        assert len(dead.calls) == 4


def check_that_nobody_waits_for(dead: Receiver, data: Path) -> list[str]:
    """Serve while a receiver hangs: captions, other receivers, a stop. Return its tasks."""
    with running(data, **PATIENT) as service, receiving() as well:
        slow = [send(service, dead.url()) for _ in range(20)]
        wait_for(lambda: dead.hanging == 4, "four calls to hang")
        for number in range(5):
            image = {"image": ("one.png", png(number))}
            assert service.client.post("/caption", files=image).status_code == 200
            task_id = send(service, well.url(("127.0.0.1", "localhost")[number % 2]))
            assert service.finished(task_id)["status"] == "COMPLETED"
            assert ended(service, task_id)[0] == "DELIVERED"
        assert dead.hanging == len(dead.calls) == 4, "no more than so many at one host"
        assert {delivery(service, task_id)[1] for task_id in slow} == {0}
        assert service.stop() == 0, "a call under way does not hold up the end"
    assert query(data, "SELECT count(*) FROM deliveries WHERE status = 'PENDING'") == [(20,)]
    return slow


def test_off_by_default(service: Service) -> None:
    response = service.client.post(
        "/async-batch-caption",
        files={"images": ("a.png", png(1))},
        data={"callback_url": "http://127.0.0.1/"},
    )
    assert response.status_code == 422
    (problem,) = response.json()["detail"]
    assert problem == {
        "type": "value_error",
        "loc": ["body", "callback_url"],
        "msg": "webhooks are off: [webhooks] allow lists no host",
        "input": "http://127.0.0.1/",
    }
    assert not (service.data / "webhook-secret").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.2/", "not in [webhooks] allow"),
        ("http://2130706433/", "not in [webhooks] allow"),
        ("http://127.0.0.1.example/", "not in [webhooks] allow"),
        ("http://127.0.0.1@example.com/", "user name"),
        ("http://example.com#@127.0.0.1/", "fragment"),
        ("http://127.0.0.1/\r\nX-Forged: 1", "no spaces"),
        ("ftp://127.0.0.1/", "https:// or http://"),
        ("127.0.0.1", "https:// or http://"),
        ("http://127.0.0.1:99999/", "not a URL"),
        (f"http://127.0.0.1/{'x' * 2000}", "at most 2000"),
    ],
)
def test_other_hosts_and_odd_urls_are_refused(hooked: Service, url: str, reason: str) -> None:
    before = query(hooked.data, "SELECT count(*) FROM tasks")
    response = hooked.client.post(
        "/async-batch-caption", files={"images": ("a.png", png(1))}, data={"callback_url": url}
    )
    assert response.status_code == 422
    body = response.json()
    assert (body["code"], body["detail"][0]["loc"]) == ("invalid_request", ["body", "callback_url"])
    assert reason in body["detail"][0]["msg"]
    assert query(hooked.data, "SELECT count(*) FROM tasks") == before
    assert list((hooked.data / "spool").iterdir()) == []


def test_the_payload_is_what_the_status_call_says(hooked: Service) -> None:
    names = ["boat_and_sun.png", "three_in_a_row.jpg"]
    with receiving() as receiver:
        task_id = send(hooked, receiver.url(), *map(upload, names), ("naïve 写真.png", b"x"))
        (call,) = receiver.wait_for_calls(1)
    payload = json.loads(call.body)
    assert payload["data"] == hooked.task(task_id)
    assert [result["image_path"] for result in payload["data"]["result"]] == [
        *names,
        "naïve 写真.png",
    ]

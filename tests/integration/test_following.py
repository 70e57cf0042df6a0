"""Clients that follow tasks of a running service: from any web process, over stops and restarts."""

import json
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from captiond.keys import new_secret
from tests.conftest import png
from tests.eventsource import ServerEvent, followed
from tests.patience import PATIENCE
from tests.service import (
    PATIENT,
    TWO,
    Service,
    http_client,
    running,
    running_without_model,
    wait_for,
)

SLOW = {"num_beams": "8", "max_new_tokens": "40", "min_new_tokens": "40"}
SOON = {"CAPTIOND_SERVER__SHUTDOWN_SECONDS": "3"}
# So many batches that a task is stopped in the middle.
SMALL_BATCHES = {"CAPTIOND_MODEL__BATCH_SIZE": "2"}
IMAGES = 24
NUMBERS = count()
RESET = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # when it is closed


def accept(service: Service, images: int, secret: str = "", **options: str) -> str:
    files = [("images", (f"{n}.png", png(next(NUMBERS)))) for n in range(images)]
    headers = {"X-API-Key": secret} if secret else {}
    response = service.client.post(
        "/async-batch-caption", files=files, data=options, headers=headers
    )
    assert response.status_code == 202, response.text
    task_id: str = response.json()["task_id"]
    return task_id


def connection(service: Service, **options: Any) -> httpx.Client:
    """Return a client with a connection of its own, which any web process may have."""
    return http_client(base_url=service.url, **options)


def follow(service: Service, task_id: str, opened: threading.Semaphore) -> list[ServerEvent]:
    with connection(service) as client, followed(client, task_id) as events:
        opened.release()
        return [*events]


def images(events: list[ServerEvent]) -> Counter[int]:
    return Counter(event.data["position"] for event in events if event.name == "image")


def processes(service: Service, path: str) -> set[str]:
    """Return which web processes have answered requests for paths that begin so."""
    entries = [each for each in service.logged("request") if each["path"].startswith(path)]
    return {entry["process"].partition("-")[0] for entry in entries}


def test_clients_of_both_processes_get_each_result_once(two: Service) -> None:
    model = two.child("model")
    model.suspend()
    task_id = accept(two, 20)
    opened, clients = threading.Semaphore(0), 24
    with ThreadPoolExecutor(clients + 1) as pool:
        following = [pool.submit(follow, two, task_id, opened) for _ in range(clients)]
        waiting = pool.submit(two.client.get, f"/async-batch-caption/status/{task_id}?wait=60")
        for _ in following:
            assert opened.acquire(timeout=PATIENCE)
        assert not any(each.done() for each in following)
        model.resume()
        seen = [each.result() for each in following]
        waiting.result()
    for events in seen:
        assert images(events) == Counter(range(20))
        assert (events[-1].name, events[-1].data["status"]) == ("end", "COMPLETED")
    assert two.task(task_id)["status"] == "COMPLETED"
    path = "/async-batch-caption/events/"
    wait_for(lambda: len(processes(two, path)) == 2, "streams of both processes")


def test_a_client_goes_on_after_a_restart(data: Path) -> None:
    """Whatever happens to the supervisor, the streams end, and no result is lost or doubled."""
    followed_tasks: list[tuple[str, list[ServerEvent]]] = []
    for end in ("kill", "stop", ""):
        with running(data, **PATIENT, **SOON, **SMALL_BATCHES) as service:
            for task_id, before in followed_tasks[-1:]:
                with followed(service.client, task_id, before[-1].id) as events:
                    after = [*events]
                assert after[-1].name == "end"
                assert images(before) + images(after) == Counter(range(IMAGES))
            if end:
                followed_tasks.append(follow_until_the_end_of(service, end))
            else:
                assert service.stop() == 0


def follow_until_the_end_of(service: Service, end: str) -> tuple[str, list[ServerEvent]]:
    """Kill or stop a service whose task is followed. Return the id of the task, and its events."""
    task_id = accept(service, IMAGES, **SLOW)
    ending = threading.Thread(target=service.kill if end == "kill" else service.stop)
    with connection(service) as client, followed(client, task_id) as events:
        before = [next(event for event in events if event.name == "image")]
        service.child("model").suspend()  # so that the task is not finished before the end
        ending.start()
        try:
            before.extend(events)
            ended = True
        except httpx.RemoteProtocolError:
            ended = False
    ending.join()
    # The kernel kills the web processes of a supervisor that was killed. It closes the supervisor's
    # channels before, so a fast web process may end its streams in time.
    assert ended or end == "kill"
    assert (before[-1].name == "reconnect") == ended
    assert 0 < images(before).total() < IMAGES
    return task_id, before


def test_a_stop_waits_for_nobody_who_waits(data: Path) -> None:
    following, waiting = 6, 6
    limit = {"CAPTIOND_CLIENTS__CONCURRENT": str(following + waiting)}
    with running_without_model(data, *TWO, **limit) as service:
        task_id = accept(service, 1)
        opened = threading.Semaphore(0)

        def wait() -> dict[str, Any]:
            path = f"/async-batch-caption/status/{task_id}?wait=60"
            with connection(service) as client:
                while (response := client.get(path)).status_code == 429:
                    pass  # the request for /info below was counted instead of this one
            body: dict[str, Any] = response.json()
            return body

        with ThreadPoolExecutor(following + waiting) as pool:
            streams = [pool.submit(follow, service, task_id, opened) for _ in range(following)]
            for _ in streams:
                assert opened.acquire(timeout=PATIENCE)
            waits = [pool.submit(wait) for _ in range(waiting)]
            wait_for(lambda: service.client.get("/info").status_code == 429, "all to wait")
            assert service.stop() == 0
            assert {each.result()[-1].name for each in streams} == {"reconnect"}
            answers = [each.result() for each in waits]
        assert {answer.get("status", answer.get("code")) for answer in answers} <= {
            "PENDING",
            "draining",
        }


def test_a_client_that_leaves_is_forgotten(two: Service) -> None:
    two.child("model").suspend()
    task_id = accept(two, 1)
    for _ in range(3):
        with connection(two) as client, followed(client, task_id) as events:
            assert next(events).name == "progress"
    wait_for(
        lambda: sum("/events/" in each["path"] for each in two.logged("client_gone")) >= 3,
        "three clients that are gone",
    )
    two.child("model").resume()
    assert two.finished(task_id)["status"] == "COMPLETED"


def test_results_are_downloaded(two: Service) -> None:
    task_id = accept(two, 3)
    expected = two.finished(task_id)["result"]
    path = f"/async-batch-caption/results/{task_id}"
    response = two.client.get(path, headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in response.text.splitlines()] == expected
    assert response.headers["transfer-encoding"] == "chunked"
    head = two.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-disposition"] == f'attachment; filename="{task_id}.json"'
    for path in (f"/async-batch-caption/events/{task_id}", "/info"):
        assert two.client.head(path).status_code == 200
        assert two.client.post(path).status_code == 405


def test_only_the_owner_of_a_task_follows_it(data: Path) -> None:
    secrets = {name: new_secret() for name in ("one", "two", "operator")}
    named: dict[str, dict[str, Any]] = {name: {"key": key} for name, key in secrets.items()}
    named["operator"]["scopes"] = ["admin"]
    named["two"]["concurrent"] = 2
    environ = {"CAPTIOND_KEYS__NAMED": json.dumps(named)}
    with running_without_model(data, *TWO, **environ) as service:
        task_id = accept(service, 1, secrets["one"])

        def status(method: str, path: str, name: str) -> int:
            headers = {"X-API-Key": secrets[name]}
            with (
                connection(service) as client,
                client.stream(method, path, headers=headers) as response,
            ):
                return response.status_code

        base = "/async-batch-caption"
        for path in ("events/{}", "results/{}", "status/{}?wait=1"):
            asked = f"{base}/{path.format(task_id)}"
            assert [status("GET", asked, name) for name in secrets] == [200, 404, 200]
        assert status("POST", f"{base}/{task_id}/retry", "two") == 404
        assert status("POST", f"{base}/{task_id}/retry", "one") == 409
        listed = {
            name: service.client.get("/tasks", headers={"X-API-Key": secret}).json()["items"]
            for name, secret in secrets.items()
        }
        assert [len(items) for items in listed.values()] == [1, 0, 1]
        # Those who wait count against the limit of simultaneous requests.
        own, key = accept(service, 1, secrets["two"]), secrets["two"]
        # A web process notices at once that a connection was reset.
        resetting = httpx.HTTPTransport(verify=False, socket_options=[RESET])
        with (
            connection(service, transport=resetting) as client,
            followed(client, own, **{"X-API-Key": key}) as first,
            followed(client, own, **{"X-API-Key": key}) as second,
        ):
            assert {next(first).name, next(second).name} == {"progress"}
            assert status("GET", "/info", "two") == 429
        wait_for(lambda: status("GET", "/info", "two") == 200, "the end of the streams")

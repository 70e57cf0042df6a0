"""The metrics of the running service, as Prometheus reads them, and the ids in its log."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from captiond.logs import shortened
from captiond.metrics import (
    BATCH_SECONDS,
    CACHE_LOOKUPS,
    CAPTION_TOKENS,
    HEALTH,
    IMAGE_SECONDS,
    IMAGE_WAIT_SECONDS,
    IMAGES_FINISHED,
    METRICS,
    MODEL_INFO,
    PROCESS_CPU,
    PROCESS_MEMORY,
    PROCESSES,
    REQUEST_SECONDS,
    REQUESTS,
)
from tests.conftest import png
from tests.service import Service, http_client, query, running_without_model, wait_for

read_open_metrics: Callable[[str], Iterable[Family]] = open_metrics
Samples = defaultdict[str, dict[frozenset[str], float]]
GPU_ONLY = {"captiond_device_memory_bytes"}


def samples(service: Service, client: httpx.Client | None = None) -> Samples:
    """The samples of the service as they are now: by their names and the values of their labels."""
    response = (client or service.client).get("/metrics")
    assert response.status_code == 200, response.text
    found: Samples = defaultdict(dict)
    for family in plain(response.text):
        for sample in family.samples:
            found[sample.name][frozenset(sample.labels.values())] = sample.value
    return found


def captioned(service: Service, *numbers: int) -> None:
    for number in numbers:
        service.client.post("/caption", files={"image": ("a.png", png(number))}).raise_for_status()


def finished_task(service: Service, *numbers: int) -> None:
    files = [("images", ("a.png", png(number))) for number in numbers]
    accepted = service.client.post("/async-batch-caption", files=files)
    service.finished(accepted.json()["task_id"])


def wait_for_earlier_tests(service: Service) -> None:
    """Wait until the tasks of earlier tests are finished, and counted."""
    waiting = "SELECT count(*) FROM images WHERE status IN ('PENDING', 'PROCESSING')"
    wait_for(lambda: query(service.data, waiting) == [(0,)], "the end of earlier tasks")
    finished_task(service, 7000)  # what is measured of it arrives after what is measured of them


def test_an_image_is_counted_in_every_step(service: Service) -> None:
    wait_for_earlier_tests(service)
    before = samples(service)
    with service.caching():
        captioned(service, 7001)
    captioned(service, 7001)
    finished_task(service, 7002)
    after = samples(service)

    def new(name: str, *labels: str) -> float:
        key = frozenset(labels)
        return after[name][key] - before[name].get(key, 0)

    finished = IMAGES_FINISHED.name
    assert new(finished, "interactive", "captioned") == 1
    assert new(finished, "interactive", "cached") == 1
    assert new(finished, "bulk", "captioned") == 1
    assert new(CACHE_LOOKUPS.name, "hit") == 1
    assert new(CACHE_LOOKUPS.name, "miss") == 2
    assert new(REQUESTS.name, "POST", "/caption", "200") == 2
    assert new(f"{REQUEST_SECONDS.name}_count", "POST", "/caption") == 2
    assert new(CAPTION_TOKENS.name) > 2
    for lane, images in (("interactive", 2), ("bulk", 1)):
        for metric in (IMAGE_SECONDS, IMAGE_WAIT_SECONDS):
            assert new(f"{metric.name}_count", lane) == images
        waited, whole = (
            new(f"{metric.name}_sum", lane) for metric in (IMAGE_WAIT_SECONDS, IMAGE_SECONDS)
        )
        assert 0 < waited < whole
        assert 0 < new(f"{BATCH_SECONDS.name}_sum", lane) < whole


def test_the_state_and_the_processes_are_there(service: Service) -> None:
    found = samples(service)
    assert found[HEALTH.name][frozenset({"healthy"})] == 1
    assert sum(found[HEALTH.name].values()) == 1
    model = frozenset({"captiond/scenes", "cpu", "fp32", "false"})
    assert found[MODEL_INFO.name] == {model: 1}
    kinds = {kind: number for (kind,), number in found[PROCESSES.name].items()}
    assert {kind: kinds.get(kind) for kind in ("supervisor", "web", "model")} == {
        "supervisor": 1,
        "web": 1,
        "model": 1,
    }
    (model_process,) = service.children("model")
    assert kinds["decoder"] == len(model_process.children())
    memory = {kind: size for (kind,), size in found[PROCESS_MEMORY.name].items()}
    assert memory["model"] > model_process.memory_info().rss / 2
    cpu = {kind: seconds for (kind,), seconds in found[PROCESS_CPU.name].items()}
    assert cpu["model"] > 0


def test_all_web_processes_show_the_same_metrics(two: Service) -> None:
    """Each scrape is answered by any of them. A counter never goes back."""
    seen: list[float] = []
    for number in range(12):
        with http_client(base_url=two.url) as client:  # a new connection
            client.get("/version").raise_for_status()  # which no other test counts
            found = samples(two, client)
            seen.append(versions(found))
            assert found["captiond_connections"][frozenset()] >= 1, number
    assert seen == sorted(seen)
    assert wait_for(lambda: versions(samples(two)) == 12, "what both processes have counted")


def versions(found: Samples) -> float:
    return found[REQUESTS.name][frozenset({"GET", "/version", "200"})]


def test_prometheus_can_choose_openmetrics(service: Service) -> None:
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    response = service.client.get("/metrics", headers=headers)
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1")
    families = {family.name for family in read_open_metrics(response.text)}
    assert families == {name.removesuffix("_total") for name in METRICS}


def test_a_service_without_a_model_has_metrics(data: Path) -> None:
    with running_without_model(data) as service:
        accepted = service.client.post("/async-batch-caption", files={"images": ("a", png(1))})
        assert accepted.status_code == 202
        found = samples(service)
        assert found["captiond_ready"] == {frozenset(): 0}
        assert found[HEALTH.name][frozenset({"starting"})] == 1
        assert found[MODEL_INFO.name] == {}
        assert found["captiond_queue_images"][frozenset({"bulk"})] == 1
        assert found["captiond_queue_oldest_seconds"][frozenset({"bulk"})] > 0


def test_every_metric_has_a_series_once_the_service_has_worked(service: Service) -> None:
    """Except those that count what has not happened and is not known in advance."""
    captioned(service, 7003)
    finished_task(service, 7004)
    families = {family.name: family for family in plain(service.client.get("/metrics").text)}
    empty = {name for name in METRICS if not families[name.removesuffix("_total")].samples}
    assert empty <= GPU_ONLY | {
        "captiond_files_refused_total",
        "captiond_http_errors_total",
        "captiond_object_read_seconds",
        "captiond_translations_total",
        "captiond_webhook_call_seconds",
    }


# ---------------------------------------------------------------- the log


def processes_that_log(service: Service, **fields: str) -> set[str]:
    """Return the kinds of processes that have logged an entry with these fields."""
    entries = [json.loads(line) for line in service.log_text.splitlines() if line.startswith("{")]
    return {
        entry["process"].partition("-")[0]
        for entry in entries
        if all(entry.get(name) == value for name, value in fields.items())
    }


def wait_for_processes(service: Service, processes: set[str], request_id: str) -> None:
    """Wait until these processes have logged something about a request.

    The web process logs a request after its response.
    """
    wait_for(
        lambda: processes_that_log(service, request_id=request_id) == processes,
        f"{request_id} in the log of {processes}",
    )


def test_a_request_and_a_task_are_in_the_log_of_all_processes(service: Service) -> None:
    headers = {"X-Request-ID": "followed-caption"}
    files = {"image": ("a.png", png(7005))}
    service.client.post("/caption", files=files, headers=headers).raise_for_status()
    task = {"X-Request-ID": "followed-task"}
    accepted = service.client.post(
        "/async-batch-caption", files={"images": ("a.png", png(7006))}, headers=task
    )
    task_id = accepted.json()["task_id"]
    service.finished(task_id)
    for identity in (*headers.values(), *task.values()):
        wait_for_processes(service, {"web0", "supervisor", "model0"}, identity)
    shown = shortened(task_id)
    assert processes_that_log(service, request_id="followed-task", task_id=shown) == {
        "supervisor",
        "model0",
    }
    assert task_id not in service.log_text

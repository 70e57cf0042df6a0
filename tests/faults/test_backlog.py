"""A queue of ten thousand images (three hundred without `FAULT_SOAK`)."""

import time
from pathlib import Path

from tests.conftest import png
from tests.faults.harness import SOAK, median, record, rounds
from tests.patience import PATIENCE
from tests.service import FRESH, Service, query, running, running_without_model
from tests.warmstart import COLD

FILES = 100
ASKED = 100  # times that a client asks for the status of a task


def test_a_long_queue_costs_little_and_survives(data: Path) -> None:
    images = rounds(300, 10_000)
    started = running if SOAK else running_without_model  # the model works only to be measured
    with started(data, **FRESH, **COLD) as service:
        accepted = [fill(service, first) for first in range(0, images, FILES)]
        waits = [seconds_of_status(service, accepted[n % len(accepted)]) for n in range(ASKED)]
        sizes = {p.pid: p.memory_info().rss for p in service.tree()[:1] + service.children("web")}
        assert all(size < 200e6 for size in sizes.values()), "the queue is not in memory"
        service.kill()
    begun = time.monotonic()
    with Service(data, **FRESH) as service:
        listening = time.monotonic() - begun
        service.wait_ready()
        ready = time.monotonic() - begun
        alone = service.client.post("/caption", files={"image": ("a.png", png(images + 1))})
        assert alone.status_code == 200
        for task_id in accepted if SOAK else accepted[:1]:
            assert service.finished(task_id, seconds=10 * PATIENCE)["status"] == "COMPLETED"
        assert service.stop() == 0
    assert query(data, "SELECT count(*) FROM images") == [(images,)]
    record(
        "a long queue",
        rounds=images,
        status_p50_ms=round(median(waits) * 1000, 1),
        status_p99_ms=round(sorted(waits)[ASKED - 2] * 1000, 1),
        restart_listening_s=round(listening, 2),
        restart_ready_s=round(ready, 2),
        largest_mb=round(max(sizes.values()) / 1e6),
    )


def fill(service: Service, first: int) -> str:
    files = [("images", (f"{n}.png", png(n))) for n in range(first, first + FILES)]
    response = service.client.post("/async-batch-caption", files=files)
    assert response.status_code == 202
    task_id: str = response.json()["task_id"]
    return task_id


def seconds_of_status(service: Service, task_id: str) -> float:
    begun = time.monotonic()
    service.task(task_id)
    return time.monotonic() - begun

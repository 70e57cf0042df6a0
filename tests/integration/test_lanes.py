"""Two lanes: who waits on a connection goes ahead of a task, however long that is."""

from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

from tests.conftest import png
from tests.service import Service, query, running

BACKLOG, FILES = 1000, 100
ASKED = 20


def test_an_interactive_image_waits_for_two_bulk_batches(data: Path) -> None:
    with running(data, CAPTIOND_CACHE__ENABLED="false") as service:
        tasks = [accept(service, first) for first in range(0, BACKLOG, FILES)]
        asked = [ask(service, BACKLOG + number) for number in range(ASKED)]
        assert service.task(tasks[-1])["status"] == "PENDING", "there was a backlog all the time"
        passed = [seconds_of(entry) for entry in service.logged("batch") if entry["lane"] == "bulk"]
    before = sorted(sum(begun < second < ended for second in passed) for begun, ended in asked)
    assert before[ASKED // 2] <= 2
    assert before[-1] <= 8  # of 125: while it is decoded on a busy machine, batches go on


def accept(service: Service, first: int) -> str:
    """A task of as many images as a request may have."""
    files = [("images", (f"{n}.png", png(n))) for n in range(first, first + FILES)]
    response = service.client.post("/async-batch-caption", files=files)
    task_id: str = response.json()["task_id"]
    return task_id


def ask(service: Service, number: int) -> tuple[float, float]:
    """One interactive image; when it was asked for and when it was answered, Unix seconds."""
    begun = time()
    response = service.client.post("/caption", files={"image": ("one.png", png(number))})
    assert response.status_code == 200
    return begun, time()


def seconds_of(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


def test_an_interactive_image_does_not_wait_for_the_same_one_in_a_task(data: Path) -> None:
    newest = "SELECT filename FROM images WHERE status = 'PROCESSING' ORDER BY id DESC LIMIT 1"
    with running(data) as service:
        for first in range(0, BACKLOG, FILES):
            accept(service, first)
        cached = []
        while rows := query(data, newest):
            content = png(int(Path(rows[0][0]).stem))
            answer = service.client.post("/caption", files={"image": ("one.png", content)})
            cached.append(answer.json()["cached"])
    assert not all(cached), "some were captioned before their like"

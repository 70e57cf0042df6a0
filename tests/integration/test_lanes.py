"""Interactive images go ahead of tasks, however many images of tasks wait."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.conftest import png
from tests.service import Service, query, running, wait_for

BACKLOG, FILES = 500, 100
ASKED = 10
SIDE = 93  # pixels; no other test has images of this size, whose captions might be known
LARGE_BATCHES = {"CAPTIOND_MODEL__BATCH_SIZE": "32"}


def test_an_interactive_image_waits_for_two_bulk_batches(service: Service) -> None:
    """The count begins when it is decoded: that may take any time on a busy machine."""
    before, earlier = (len(service.logged(event)) for event in ("processing_time", "batch"))
    tasks = [accept(service, first) for first in range(0, BACKLOG, FILES)]
    for number in range(BACKLOG, BACKLOG + ASKED):
        image = {"image": ("one.png", png(number, SIDE))}
        assert service.client.post("/caption", files=image).status_code == 200
    assert not service.task(tasks[-1])["finished_at"], "there was a backlog all the time"
    timings = service.wait_for_entries("processing_time", before + ASKED)[before:]
    batches = service.logged("batch")[earlier:]
    for task_id in tasks:
        service.client.delete(f"/async-batch-caption/{task_id}")
    asked = [batch for batch in batches if batch["lane"] == "interactive"]
    bulk = [seconds_of(batch) for batch in batches if batch["lane"] == "bulk"]
    for batch, timing in zip(asked, timings, strict=True):
        captioned = seconds_of(batch)
        decoded = captioned - batch["seconds"] - timing["queue"] / 1000
        assert sum(decoded < ended < captioned for ended in bulk) <= 2


def accept(service: Service, first: int) -> str:
    """Send a task of `FILES` images, and return its id."""
    files = [("images", (f"{n}.png", png(n, SIDE))) for n in range(first, first + FILES)]
    response = service.client.post("/async-batch-caption", files=files)
    task_id: str = response.json()["task_id"]
    return task_id


def seconds_of(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


def test_an_interactive_image_does_not_wait_for_the_same_one_in_a_task(data: Path) -> None:
    newest = "SELECT filename FROM images WHERE status = 'PROCESSING' ORDER BY id DESC LIMIT 1"
    with running(data, **LARGE_BATCHES) as service, ThreadPoolExecutor(1) as pool:
        model = service.child("model")
        model.suspend()
        accept(service, 0)
        ((name,),) = wait_for(lambda: query(data, newest), "a claim")
        image = {"image": ("one.png", png(int(Path(name).stem), SIDE))}
        answer = pool.submit(service.client.post, "/caption", files=image)
        wait_for(lambda: len(list((data / "spool").iterdir())) == 2, "the upload of the image")
        model.resume()
        assert not answer.result().json()["cached"], "it waited for the one in the task"

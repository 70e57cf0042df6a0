"""A large task of one client delays no other client's task, and its polls no other request."""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from multiprocessing import get_context
from typing import Any

import httpx
import pytest

from tests.conftest import png
from tests.faults.harness import PAUSE, SOAK, median, record, rounds
from tests.patience import PATIENCE
from tests.service import Service, http_client, running, wait_for

FILES = 100
ASKED = rounds(2, 10)  # tasks of the other client, one after the other
MOST_BATCHES = 3
POLLERS = 20
# A batch then takes much longer than it takes to accept a task.
SLOW = {"num_beams": "8", "max_new_tokens": "40", "min_new_tokens": "40"}
MANY_FILES = {"CAPTIOND_LIMITS__FILES": "10000"}
NUMBERS = count()


@contextmanager
def client_at(service: Service, address: str) -> Iterator[httpx.Client]:
    """A client with an address of its own, all of which are this machine's."""
    transport = httpx.HTTPTransport(local_address=address, verify=False)
    with httpx.Client(transport=transport, base_url=service.url, timeout=PATIENCE) as client:
        yield client


def accept(client: httpx.Client, images: list[bytes], **options: str) -> str:
    files = [("images", (f"{n}.png", image)) for n, image in enumerate(images)]
    response = client.post("/async-batch-caption", files=files, data=options)
    assert response.status_code == 202, response.text
    task_id: str = response.json()["task_id"]
    return task_id


def fresh(images: int) -> list[bytes]:
    """Return images that were not captioned before."""
    return [png(next(NUMBERS)) for _ in range(images)]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes requests with many files."""
    with running(tmp_path_factory.mktemp("busy") / "data", **MANY_FILES) as service:
        yield service
        assert service.stop() == 0


def test_a_large_task_delays_no_other_client(busy: Service) -> None:
    images = rounds(300, 20_000)
    with client_at(busy, "127.0.0.1") as greedy, client_at(busy, "127.0.0.2") as other:
        tasks = [accept(greedy, fresh(FILES), **SLOW) for _ in range(images // FILES)]
        wait_for(lambda: busy.logged("batch"), "the first batch")
        waited = [batches_for_one_image(busy, other) for _ in range(ASKED)]
        assert busy.task(tasks[-1])["status"] in {"PENDING", "PROCESSING"}, "it was busy"
        for task_id in tasks:
            greedy.delete(f"/async-batch-caption/{task_id}").raise_for_status()
    assert max(waited) <= MOST_BATCHES
    record("a task beside one of many images", rounds=images, most_batches=max(waited))


def batches_for_one_image(service: Service, client: httpx.Client) -> int:
    """Send a task of one image. Return how many batches began after it was accepted.

    The batch of the image itself counts, those after it do not.
    """
    task_id = accept(client, fresh(1), **SLOW)
    begun = time.time()
    task = service.finished(task_id)
    assert task["status"] == "COMPLETED"
    ended = datetime.fromisoformat(task["finished_at"]).timestamp()
    batches = [batch for batch in service.logged("batch") if begun < begin_of(batch) < ended]
    return len(batches)


def begin_of(batch: dict[str, Any]) -> float:
    moment: float = datetime.fromisoformat(batch["timestamp"]).timestamp()
    return moment - float(batch["seconds"])


def test_polls_of_a_large_task_delay_no_other_request(busy: Service) -> None:
    images, pollers = rounds(1000, 10_000), rounds(4, POLLERS)
    known = png(next(NUMBERS))
    busy.client.post("/caption", files={"image": ("a.png", known)}).raise_for_status()
    task_id = accept(busy.client, [known] * images)
    whole = busy.finished(task_id, seconds=10 * PATIENCE)
    assert len(whole["result"]) == images
    alone = [seconds_of_caption(busy, known) for _ in range(rounds(30, 100))]
    path = f"{busy.url}/async-batch-caption/status/{task_id}"
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        polls = process.submit(poll, path, pollers, rounds(2, 20))
        beside = []
        while not polls.done():
            beside.append(seconds_of_caption(busy, known))
            time.sleep(PAUSE)
        assert polls.result() >= pollers
    assert median(beside) < (1.5 if SOAK else 5) * median(alone) + (0 if SOAK else 0.05)
    record(
        "polls of a large task",
        rounds=images,
        polls=polls.result(),
        p50_alone_ms=round(median(alone) * 1000, 1),
        p50_beside_ms=round(median(beside) * 1000, 1),
    )


def seconds_of_caption(service: Service, image: bytes) -> float:
    begun = time.monotonic()
    service.client.post("/caption", files={"image": ("a.png", image)}).raise_for_status()
    return time.monotonic() - begun


def poll(url: str, pollers: int, times: int) -> int:
    """Poll as the 202 asks for: each poller two seconds after its last poll, so many times.

    Return the number of polls.
    """
    with http_client() as client:
        due = [time.monotonic() + 2.0 * number / pollers for number in range(pollers)]
        for done in range(pollers * times):
            time.sleep(max(0.0, due[done % pollers] - time.monotonic()))
            due[done % pollers] = time.monotonic() + 2.0
            client.get(url).raise_for_status()
    return pollers * times

"""SIGKILL, anywhere, at any moment: what was accepted is finished, each image once."""

import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import png
from tests.service import Service, check_nothing_lost, running, wait_for

SEED = 20261123


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)


def accept(service: Service, numbers: range, images: int) -> Iterator[tuple[str, int]]:
    """Send one task for each number; none of its images is like any other."""
    for number in numbers:
        files = [
            ("images", (f"{number}-{place}.png", png(number * images + place)))
            for place in range(images)
        ]
        response = service.client.post("/async-batch-caption", files=files)
        assert response.status_code == 202, response.text
        yield response.json()["task_id"], images


def check_finished(service: Service, accepted: dict[str, int]) -> None:
    for task_id, images in accepted.items():
        task = service.finished(task_id)
        assert task["status"] == "COMPLETED"
        assert [result["error"] for result in task["result"]] == [None] * images


def wait_for_images(service: Service, accepted: dict[str, int], most: int) -> None:
    """Wait until more than `most` images of these tasks are done."""

    def enough() -> bool:
        done: list[int] = [service.task(task_id)["progress"]["done"] for task_id in accepted]
        return sum(done) > most

    wait_for(enough, f"{most} images to be done")


def ended(processes: list[psutil.Process]) -> bool:
    """Whether all of them are gone; one that nobody reaped yet counts as gone."""
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


def test_the_model_process_is_killed_with_tasks_in_flight(data: Path, rng: random.Random) -> None:
    with running(data, CAPTIOND_CACHE__ENABLED="false") as service:
        accepted: dict[str, int] = {}
        for round_ in range(3):
            accepted |= accept(service, range(round_ * 10, round_ * 10 + 10), images=8)
            wait_for_images(service, accepted, rng.randrange(40) + round_ * 80)
            for process in service.children("model"):
                process.kill()
            service.wait_ready()
        check_finished(service, accepted)
        assert service.stop() == 0
    check_nothing_lost(data, accepted)


def test_the_whole_tree_is_killed_and_the_next_start_finishes(
    data: Path, rng: random.Random
) -> None:
    accepted: dict[str, int] = {}
    for round_ in range(3):
        with running(data, CAPTIOND_CACHE__ENABLED="false") as service:
            accepted |= accept(service, range(round_ * 10, round_ * 10 + 10), images=8)
            tree = service.tree()
            victims = [tree[0]] if round_ else tree
            for process in victims:
                process.send_signal(signal.SIGKILL)
            service.process.wait()
            wait_for(partial(ended, tree), "every process of the tree to be gone")
    with running(data) as service:
        check_finished(service, accepted)
        assert service.stop() == 0
    check_nothing_lost(data, accepted)


def test_a_web_process_is_killed_during_uploads(data: Path) -> None:
    with running(data, "--workers", "2") as service:
        accepted: dict[str, int] = {}

        def upload(number: int) -> None:
            try:
                accepted.update(accept(service, range(number, number + 1), images=6))
            except httpx.TransportError:
                return  # its web process died: not accepted, and not promised

        with ThreadPoolExecutor(8) as pool:
            uploads = [pool.submit(upload, number) for number in range(60)]
            for _ in range(3):
                wait_for(lambda: len(service.children("web")) == 2, "two web processes")
                service.children("web")[0].kill()
            for future in uploads:
                future.result()
        assert service.client.get("/livez").status_code == 200
        check_finished(service, accepted)
        assert service.stop() == 0
    kept = {task: images for task, images in accepted.items() if task}
    check_nothing_lost(data, kept)


def test_interactive_clients_of_a_killed_model_get_an_answer_or_503(data: Path) -> None:
    with running(data, CAPTIOND_CACHE__ENABLED="false") as service, ThreadPoolExecutor(40) as pool:
        answers = [
            pool.submit(service.client.post, "/caption", files={"image": ("a.png", png(number))})
            for number in range(200)
        ]
        wait_for(lambda: sum(answer.done() for answer in answers) > 20, "some answers")
        for process in service.children("model"):
            process.kill()
        statuses = [answer.result().status_code for answer in answers]
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > 20
        service.wait_ready()
        assert service.client.post("/caption", files={"image": ("a.png", png(1))}).is_success


def test_ctrl_c_leaves_no_process_and_keeps_what_waits(data: Path) -> None:
    with running(data, CAPTIOND_CACHE__ENABLED="false") as service:
        accepted = dict(accept(service, range(20), images=8))
        tree = service.tree()
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait() == 0
        wait_for(lambda: ended(tree), "every process of the tree to be gone")
    with running(data) as service:
        check_finished(service, accepted)
        assert service.stop() == 0
    check_nothing_lost(data, accepted)


def test_a_decoder_is_killed_and_the_image_is_tried_again(data: Path) -> None:
    with running(data, CAPTIOND_CACHE__ENABLED="false") as service:
        accepted = dict(accept(service, range(10), images=8))
        (model,) = service.children("model")
        for _ in range(5):
            for decoder in model.children():
                decoder.kill()
        for task_id in accepted:
            assert service.finished(task_id)["status"] == "COMPLETED"
        assert service.client.get("/readyz").status_code == 200
        assert service.stop() == 0
    check_nothing_lost(data, accepted)

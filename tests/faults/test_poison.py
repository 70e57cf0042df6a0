"""An image that crashes the process that works on it, a device that fails, a hung process."""

import os
import random
import signal
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.commands import command
from tests.conftest import png
from tests.faults.harness import FRESH, Load, check, new_seed, record, rounds, wait_for_the_end
from tests.service import WITH_STANDBY, Service, captiond, check_nothing_lost, running, wait_for

INJECT = str(Path(__file__).parent / "inject")
NEIGHBOURS = 15


@pytest.fixture
def rng() -> random.Random:
    return random.Random(new_seed())


def marked() -> bytes:
    """Return an image that triggers the injected faults."""
    buffer = BytesIO()
    Image.new("RGB", (32, 32), (255, 0, 255)).save(buffer, "PNG")
    return buffer.getvalue()


def injected(fault: str, data: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": os.pathsep.join([INJECT, os.environ.get("PYTHONPATH", "")]),
        "FAULT_INJECT": fault,
        "FAULT_INJECT_ONCE": str(data.with_suffix(".once")),
        **FRESH,
    }


def send_among_neighbours(
    service: Service, rng: random.Random, *, first: int = NEIGHBOURS + 1
) -> tuple[str, int]:
    """Send a task of 16 images, of which one is marked: any of the `first` first ones.

    Returns:
        The id of the task, and the index of the marked image.
    """
    place = rng.randrange(first)
    images = [png(number) for number in range(NEIGHBOURS)]
    images.insert(place, marked())
    files = [("images", (f"{number}.png", image)) for number, image in enumerate(images)]
    response = service.client.post("/async-batch-caption", files=files)
    assert response.status_code == 202
    return response.json()["task_id"], place


def check_only_one_failed(task: dict[str, Any], place: int, code: str) -> None:
    codes = [result.get("code") for result in task["result"]]
    assert codes == [None] * place + [code] + [None] * (NEIGHBOURS - place)


def test_an_image_that_kills_decoders_is_poison_and_can_be_retried(
    data: Path, rng: random.Random
) -> None:
    with running(data, **injected("decoder_crash", data)) as service:
        task_id, place = send_among_neighbours(service, rng)
        check_only_one_failed(service.finished(task_id), place, "poison_image")
        assert len(service.logged("decoder_died")) == 2
        alone = service.client.post("/caption", files={"image": ("x.png", marked())})
        assert (alone.status_code, alone.json()["code"]) == (400, "poison_image")
        assert service.logged("model_died") == []
        assert service.stop() == 0
    check_nothing_lost(data, {task_id: NEIGHBOURS + 1})
    with running(data, **FRESH) as well:
        result = captiond("tasks", "retry", task_id, "--data-dir", str(data), cwd=data.parent)
        assert (result.returncode, result.stdout) == (0, f"{task_id}: 1 images wait again\n")
        wait_for(lambda: well.task(task_id)["progress"]["failed"] == 0, "the retry to be seen")
        codes = [entry.get("code") for entry in well.finished(task_id)["result"]]
        assert codes == [None] * (NEIGHBOURS + 1)
        again = command("tasks", "retry", task_id, "--data-dir", str(data), cwd=data.parent)
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert "no image to try again" in again.stderr
        assert well.stop() == 0
    check_nothing_lost(data, {task_id: NEIGHBOURS + 1})
    assert list((data / "spool").iterdir()) == []
    record("a decoder dies on an image", rounds=1, images=16, lost=0, doubled=0, deaths=2)


def test_an_image_that_kills_model_processes_is_poison(data: Path, rng: random.Random) -> None:
    """The other images of its task are captioned. An interactive client gets the error."""
    with running(data, **injected("model_crash", data)) as service:
        task_id, place = send_among_neighbours(service, rng)
        check_only_one_failed(service.finished(task_id), place, "poison_image")
        deaths = len(service.logged("model_died"))
        assert deaths <= 3  # once in a batch, then twice alone
        service.wait_for_entries("model_ready", deaths + 1)
        service.wait_ready()
        answer = service.client.post("/caption", files={"image": ("x.png", marked())})
        assert (answer.status_code, answer.json()["code"]) == (503, "worker_lost")
        service.wait_for_entries("model_died", deaths + 2)
        service.wait_ready()
        assert service.client.post("/caption", files={"image": ("x.png", png(1))}).is_success
        assert service.stop() == 0
    check_nothing_lost(data, {task_id: NEIGHBOURS + 1})
    record(
        "a model process dies on an image", rounds=1, images=16, lost=0, doubled=0, deaths=deaths
    )


def test_an_image_whose_caption_kills_its_tagger_is_poison(data: Path, rng: random.Random) -> None:
    """Even though the model captions the next batch by then."""
    with running(data, **injected("tagger_crash", data)) as service:
        task_id, place = send_among_neighbours(service, rng, first=8)  # of the first batch
        check_only_one_failed(service.finished(task_id), place, "poison_image")
        assert service.stop() == 0


def test_a_batch_that_does_not_fit_into_memory_is_split(data: Path, rng: random.Random) -> None:
    with running(data, **injected("out_of_memory", data)) as service:
        task_id, _ = send_among_neighbours(service, rng)
        task = service.finished(task_id)
        assert [result["error"] for result in task["result"]] == [None] * (NEIGHBOURS + 1)
        assert service.logged("out_of_memory")
        assert service.logged("model_died") == []
        assert service.stop() == 0
    check_nothing_lost(data, {task_id: NEIGHBOURS + 1})


def test_a_device_error_ends_the_process_and_its_work_is_done_again(
    data: Path, rng: random.Random
) -> None:
    with running(data, **injected("device_error", data)) as service:
        task_id, _ = send_among_neighbours(service, rng)
        task = service.finished(task_id)
        assert [result["error"] for result in task["result"]] == [None] * (NEIGHBOURS + 1)
        assert [entry["exit_code"] for entry in service.logged("model_died")] == [1]
        assert service.stop() == 0
    check_nothing_lost(data, {task_id: NEIGHBOURS + 1})


def test_a_batch_that_never_ends_is_given_up_and_its_image_is_poison(
    data: Path, rng: random.Random
) -> None:
    with running(data, "--set", "model.batch_seconds=5", **injected("model_hang", data)) as service:
        task_id, place = send_among_neighbours(service, rng)
        check_only_one_failed(service.finished(task_id), place, "poison_image")
        assert {entry["reason"] for entry in service.logged("model_hung")} == {
            "one batch takes more than 5 seconds"
        }
        assert service.stop() == 0
    check_nothing_lost(data, {task_id: NEIGHBOURS + 1})


def test_model_processes_are_stopped(data: Path, rng: random.Random) -> None:
    """A process that is stopped (SIGSTOP) exists but is silent; a deadline replaces it."""
    load, times = Load(rng), rounds(1, 50)
    with running(data, "--set", "model.silence_seconds=8", **FRESH, **WITH_STANDBY) as service:
        with load.on(service):
            for number in range(times):
                time.sleep(rng.uniform(0, 1))
                model = service.child("model")
                model.send_signal(signal.SIGSTOP)
                service.wait_for_entries("model_hung", number + 1)
                service.wait_for_entries("model_ready", number + 2)
        wait_for_the_end(service)
        assert all(entry["stopped"] for entry in service.logged("model_hung"))
        assert service.stop() == 0
    check(data, load.ledger, "SIGSTOP of a model process", rounds=times)


def test_a_model_that_cannot_be_started_says_why_and_is_tried_again(data: Path) -> None:
    with Service(data, **injected("no_driver", data)) as service:
        service.wait_ready()
        (entry,) = service.logged("model_not_ready")
        assert "CUDA driver initialization failed" in entry["reason"]
        assert entry["code"] == "model_broken"
        assert service.stop() == 0

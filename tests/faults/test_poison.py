"""An image that crashes the process that works on it, a device that fails, a hung batch."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.commands import command
from tests.conftest import png
from tests.faults.harness import new_seed, record
from tests.faults.inject.sitecustomize import COLOURS, MENDED
from tests.service import (
    FRESH,
    Service,
    captiond,
    check_nothing_lost,
    query,
    running,
    wait_for,
)

INJECT = str(Path(__file__).parent / "inject")
BATCH_SECONDS = 5
NEIGHBOURS = 15


@pytest.fixture
def rng() -> random.Random:
    return random.Random(new_seed())


def marked(fault: str) -> bytes:
    """Return an image that causes a fault."""
    buffer = BytesIO()
    Image.new("RGB", (32, 32), COLOURS[fault]).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Faulty:
    """A running service into which faults are injected, and the number of images of each task."""

    service: Service
    faults: Path  # the folder of `sitecustomize`
    accepted: dict[str, int] = field(default_factory=dict)

    def send_among_neighbours(self, fault: str, place: int) -> str:
        """Send a task of 16 images, of which the one at `place` causes a fault. Return its id."""
        images = [png(number) for number in range(NEIGHBOURS)]
        images.insert(place, marked(fault))
        return self.send(images)

    def send(self, images: list[bytes]) -> str:
        """Send a task, and return its id."""
        files = [("images", (f"{number}.png", image)) for number, image in enumerate(images)]
        response = self.service.client.post("/async-batch-caption", files=files)
        assert response.status_code == 202
        task_id: str = response.json()["task_id"]
        self.accepted[task_id] = len(images)
        return task_id

    def deaths(self, kind: str = "model") -> int:
        """Return how many processes of a kind have died so far."""
        return len(self.service.logged(f"{kind}_died"))

    def wait_ready_after(self, deaths: int) -> None:
        """Wait until the model is ready after so many deaths in all."""
        self.service.wait_for_entries("model_died", deaths)
        self.service.wait_for_entries("model_ready", deaths + 1)
        self.service.wait_ready()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """A service for all faults. At its end, nothing is lost."""
    folder = tmp_path_factory.mktemp("faulty")
    path = os.pathsep.join([INJECT, os.environ.get("PYTHONPATH", "")])
    environ = {"PYTHONPATH": path, "FAULT_INJECT": str(folder), **FRESH}
    flags = ("--set", f"model.batch_seconds={BATCH_SECONDS}")
    with running(folder / "data", *flags, **environ) as service:
        faulty = Faulty(service, folder)
        yield faulty
        assert service.stop() == 0
    check_nothing_lost(folder / "data", faulty.accepted)


@pytest.fixture
def place(rng: random.Random) -> int:
    """Any place of the marked image among its neighbours."""
    return rng.randrange(NEIGHBOURS + 1)


def check_only_one_failed(task: dict[str, Any], place: int, code: str) -> None:
    codes = [result.get("code") for result in task["result"]]
    assert codes == [None] * place + [code] + [None] * (NEIGHBOURS - place)


def check_none_failed(task: dict[str, Any]) -> None:
    assert [result["error"] for result in task["result"]] == [None] * (NEIGHBOURS + 1)


def test_a_model_that_cannot_be_started_says_why_and_is_tried_again(faulty: Faulty) -> None:
    (entry,) = faulty.service.logged("model_not_ready")
    assert "CUDA driver initialization failed" in entry["reason"]
    assert entry["code"] == "model_broken"


def test_an_image_that_kills_decoders_is_poison_and_can_be_retried(
    faulty: Faulty, place: int
) -> None:
    service, data = faulty.service, faulty.service.data
    deaths, deaths_of_models = faulty.deaths("decoder"), faulty.deaths()
    task_id = faulty.send_among_neighbours("decoder_crash", place)
    check_only_one_failed(service.finished(task_id), place, "poison_image")
    assert faulty.deaths("decoder") == deaths + 2
    alone = service.client.post("/caption", files={"image": ("x.png", marked("decoder_crash"))})
    assert (alone.status_code, alone.json()["code"]) == (400, "poison_image")
    assert faulty.deaths() == deaths_of_models
    (faulty.faults / MENDED.name).touch()
    result = captiond("tasks", "retry", task_id, "--data-dir", str(data), cwd=data.parent)
    assert (result.returncode, result.stdout) == (0, f"{task_id}: 1 images wait again\n")
    wait_for(lambda: service.task(task_id)["progress"]["failed"] == 0, "the retry to be seen")
    check_none_failed(service.finished(task_id))
    assert query(data, f"SELECT spool FROM tasks WHERE id = '{task_id}'") == [(None,)]
    again = command("tasks", "retry", task_id, "--data-dir", str(data), cwd=data.parent)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "no image to try again" in again.stderr
    record("a decoder dies on an image", rounds=1, images=16, lost=0, doubled=0, deaths=2)


def test_an_image_that_kills_model_processes_is_poison(faulty: Faulty, place: int) -> None:
    """The other images of its task are captioned. An interactive client gets the error."""
    service, before = faulty.service, faulty.deaths()
    task_id = faulty.send_among_neighbours("model_crash", place)
    check_only_one_failed(service.finished(task_id), place, "poison_image")
    deaths = faulty.deaths() - before
    assert deaths <= 3  # once in a batch, then twice alone
    faulty.wait_ready_after(before + deaths)
    answer = service.client.post("/caption", files={"image": ("x.png", marked("model_crash"))})
    assert (answer.status_code, answer.json()["code"]) == (503, "worker_lost")
    faulty.wait_ready_after(before + deaths + 2)
    assert service.client.post("/caption", files={"image": ("x.png", png(1))}).is_success
    record(
        "a model process dies on an image", rounds=1, images=16, lost=0, doubled=0, deaths=deaths
    )


def test_an_image_whose_caption_kills_its_tagger_is_poison(
    faulty: Faulty, rng: random.Random
) -> None:
    """Even though the model captions the next batch by then."""
    place, deaths = rng.randrange(8), faulty.deaths()  # in the first batch
    task_id = faulty.send_among_neighbours("tagger_crash", place)
    check_only_one_failed(faulty.service.finished(task_id), place, "poison_image")
    assert faulty.deaths() - deaths <= 3  # with the next batch, then twice alone


def test_a_batch_that_does_not_fit_into_memory_is_split(faulty: Faulty) -> None:
    deaths = faulty.deaths()
    place = NEIGHBOURS // 2 + 1  # in the second batch: the first one may have few images
    task_id = faulty.send_among_neighbours("out_of_memory", place)
    check_none_failed(faulty.service.finished(task_id))
    assert faulty.service.logged("out_of_memory")
    assert faulty.deaths() == deaths


def test_a_device_error_ends_the_process_and_its_work_is_done_again(
    faulty: Faulty, place: int
) -> None:
    deaths = faulty.deaths()
    task_id = faulty.send_among_neighbours("device_error", place)
    check_none_failed(faulty.service.finished(task_id))
    new = faulty.service.logged("model_died")[deaths:]
    assert [entry["exit_code"] for entry in new] == [1]


def test_a_batch_that_never_ends_is_given_up_and_its_image_is_poison(faulty: Faulty) -> None:
    """Alone, it takes two processes. Neighbours survive it as they survive an image that kills."""
    task_id = faulty.send([marked("model_hang")])
    (result,) = faulty.service.finished(task_id)["result"]
    assert result["code"] == "poison_image"
    assert {entry["reason"] for entry in faulty.service.logged("model_hung")} == {
        f"one batch takes more than {BATCH_SECONDS} seconds"
    }

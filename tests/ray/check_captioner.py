"""captiond on a real Ray of this machine: `captiond.ray.Captioner`."""

import os
import signal
from collections.abc import Iterator
from itertools import islice
from logging import WARNING
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.data import Dataset

from captiond.ray import Captioner
from tests.conftest import png
from tests.faults.test_poison import INJECT, marked
from tests.service import wait_for

ACTOR = "ray::MapWorker"
SETTINGS = {"model": {"name": "captiond/scenes", "batch_size": 4}}
BLOCKS, ROWS_OF_BLOCK = 20, 16  # so many that an actor is killed in the middle


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of two cores, whatever the machine has, with a fault: see `sitecustomize`."""
    faults = tmp_path_factory.mktemp("faults")
    (faults / "no_driver").touch()
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join([INJECT, os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path)
        patch.setenv("FAULT_INJECT", str(faults))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            "local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=WARNING,
        )
        yield
        ray.shutdown()


def captioned(images: Dataset, data: Path, **options: Any) -> Dataset:
    settings = {**SETTINGS, "data": {"dir": str(data)}}
    return images.map_batches(
        Captioner,
        batch_size=8,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
        fn_constructor_kwargs={"settings": settings, **options},
    )


def test_a_bad_image_fails_its_row_and_not_the_job(data: Path) -> None:
    images = [png(1), b"no image", marked("decoder_crash"), png(2), None, png(3)]
    rows = [{"id": number, "image": image} for number, image in enumerate(images)]
    results = captioned(ray.data.from_items(rows), data, column="image").take_all()
    assert [row["id"] for row in results] == [0, 1, 2, 3, 4, 5]
    assert [row["code"] for row in results] == [
        None,
        "not_an_image",
        "poison_image",
        None,
        "empty_image",
        None,
    ]
    good = results[0]
    assert "image" not in good
    assert good["caption"]
    assert good["tags"] == sorted(good["tags"]) != []
    assert (good["width"], good["height"], good["model"]) == (96, 96, "captiond/scenes")


def test_a_killed_actor_loses_and_doubles_no_row(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png(1))
    rows = [{"uri": str(path), "id": number} for number in range(BLOCKS * ROWS_OF_BLOCK)]
    images = ray.data.from_items(rows, override_num_blocks=BLOCKS)
    results = iter(captioned(images, data).iter_rows())
    seen = list(islice(results, 1))
    model = kill_actor()
    seen += results
    assert sorted(row["id"] for row in seen) == list(range(BLOCKS * ROWS_OF_BLOCK))
    assert all(row["caption"] for row in seen)
    wait_for(lambda: not psutil.pid_exists(model), "the end of the model process")


def kill_actor() -> int:
    """Kill the actor that captions. Return the id of its model process."""
    (actor,) = (each for each in psutil.process_iter(["cmdline"]) if is_actor_of_this_test(each))
    model = wait_for(actor.children, "the model process")[0]
    actor.send_signal(signal.SIGKILL)
    return model.pid


def is_actor_of_this_test(process: psutil.Process) -> bool:
    ours = {parent.pid for parent in process.parents()}
    return os.getpid() in ours and " ".join(process.info["cmdline"] or []).startswith(ACTOR)

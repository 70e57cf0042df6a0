"""Compare the rate of one actor of Ray with that of the engine in one process.

python -m tests.benchmarks.ray_rate [--images 256] [--rounds 3] [--shape base | --model NAME]

Both read the same files, and caption with the same threads. The engine is the one of `captiond
caption`. Of both, the time begins when the first images are captioned, so that no start counts.
Without --model, the weights are random ones in the shape of BLIP.

On a machine that others use as well, the rates depend on how many threads wait for a core. So the
processor time of an image is shown too: that of this process, of all processes of Ray together, and
of the actor's own process, which bounds how many images a second an actor can have captioned.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from logging import ERROR
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
from PIL import Image

from captiond.captioners.blip.random_weights import write_random_model
from captiond.cli.captioning.in_process import captioned_batches
from captiond.cli.captioning.picture_files import FoundFile
from captiond.decoding.decode import set_up_pillow
from captiond.host.machine import usable_cores
from captiond.logs import set_up_logs
from captiond.ray import Captioner
from captiond.ray.caption_job import TASKS_AT_ONCE
from captiond.settings.config import DataSettings, LogSettings, ModelSettings, Settings
from captiond.worker.loading import Loaded, identify, load

ACTOR = "ray::MapWorker"
BATCHES = 16  # of an actor; the first of them is not measured
BLOCKS = 8
SIZE = (640, 480)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", default="base")
    parser.add_argument("--model")
    parser.add_argument("--batch-size", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = given.model or str(folder / "model")
        if not given.model:
            write_random_model(given.shape, Path(model))
        settings = settings_for(folder / "data", model, given.batch_size)
        paths = list(write_images(folder, given.images))
        measure(settings, paths, given.rounds)


def settings_for(data: Path, model: str, batch_size: int) -> Settings:
    data.mkdir()
    return Settings(
        data=DataSettings(dir=data),
        model=ModelSettings(name=model, batch_size=batch_size, threads=usable_cores()),
        logs=LogSettings(level="error"),
    )


def write_images(folder: Path, number: int) -> Iterator[Path]:
    for each in range(number):
        path = folder / f"{each}.jpg"
        image = Image.linear_gradient("L").rotate(each).resize(SIZE)
        image.convert("RGB").save(path)
        yield path


def measure(settings: Settings, paths: list[Path], rounds: int) -> None:
    """Measure both in turn, so that they share the conditions of the machine."""
    set_up_logs(settings.logs, process="benchmark")
    set_up_pillow(settings.images)
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=ERROR)
    loaded = load(identify(settings, "cpu", trial=True), settings, trial=True)
    rates: dict[str, list[Rate]] = {"engine": [], "actor": []}
    for _ in range(rounds):
        rates["engine"].append(rate(batches_of_engine(settings, loaded, paths), of_ray=False))
        rates["actor"].append(rate(batches_of_actor(settings, paths), of_ray=True))
    ray.shutdown()
    engine, actor = (
        Rate(*map(statistics.median, zip(*of_kind, strict=True))) for of_kind in rates.values()
    )
    figures = {
        **{kind: [each._asdict() for each in of_kind] for kind, of_kind in rates.items()},
        "rate_of_actor": round(actor.images_per_second / engine.images_per_second, 3),
        "processor_time_of_actor": round(actor.cpu_seconds / engine.cpu_seconds, 3),
        "milliseconds_of_its_process": round(1000 * actor.own_seconds, 2),
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


class Rate(NamedTuple):
    """Images a second, and the seconds of a core that each takes: in all, and in the actor."""

    images_per_second: float
    cpu_seconds: float
    own_seconds: float


def rate(batches: Iterable[int], *, of_ray: bool) -> Rate:
    """Return the rate after the first batch, given the sizes of the batches."""
    begun, images, time_used = 0.0, 0, ProcessorTime(of_ray)
    before = used = (0.0, 0.0)
    for size in batches:
        used = time_used.until_now()
        if begun:
            images += size
        else:
            begun, before = time.perf_counter(), used
    rate = images / (time.perf_counter() - begun)
    seconds = (round((after - at) / images, 5) for after, at in zip(used, before, strict=True))
    return Rate(round(rate, 3), *seconds)


class ProcessorTime:
    """The processor time of this process, or of all processes of Ray, also of those that ended."""

    def __init__(self, of_ray: bool) -> None:
        self._of_ray = of_ray
        self._seen: dict[int, tuple[str, float]] = {}  # command lines and seconds by process id

    def until_now(self) -> tuple[float, float]:
        """Return the seconds of all, and those of the actor."""
        this = psutil.Process()
        for process in this.children(recursive=True) if self._of_ray else [this]:
            with suppress(psutil.NoSuchProcess):  # it has just ended, or is a zombie
                used = sum(process.cpu_times()[:2])
                self._seen[process.pid] = " ".join(process.cmdline()), used
        of_actor = sum(used for name, used in self._seen.values() if name.startswith(ACTOR))
        return sum(used for _, used in self._seen.values()), of_actor


def batches_of_engine(settings: Settings, loaded: Loaded, paths: list[Path]) -> Iterator[int]:
    with ThreadPoolExecutor() as pool:
        files = [FoundFile(path) for path in paths]
        for results in captioned_batches(files, loaded, settings, pool):
            assert all(result["caption"] for result in results)
            yield len(results)


def batches_of_actor(settings: Settings, paths: list[Path]) -> Iterator[int]:
    rows: list[dict[str, Any]] = [{"uri": str(path)} for path in paths]
    results = ray.data.from_items(rows, override_num_blocks=BLOCKS).map_batches(
        Captioner,
        batch_size=max(1, len(paths) // BATCHES),
        compute=ray.data.ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=TASKS_AT_ONCE),
        num_cpus=1,
        fn_constructor_kwargs={"settings": settings},
    )
    batches: Iterable[Any] = results.iter_batches(
        batch_size=None, prefetch_batches=0, batch_format="pyarrow"
    )
    for batch in batches:
        assert batch.column("caption").null_count == 0
        yield batch.num_rows


if __name__ == "__main__":
    main()

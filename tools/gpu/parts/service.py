"""The whole service over HTTP: JPEGs of 100 KB from many clients, by several web processes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from captiond.bench.images import jpegs
from captiond.bench.load import ServiceProcess
from captiond.bench.report import quantile
from captiond.bench.run import DISTINCT
from captiond.captioners.blip.random_weights import write_processor, write_tokenizer
from captiond.errors import StartupError
from tools.gpu.clients import LAST_SECONDS, START_SECONDS, Target, Window, load
from tools.gpu.job import Job, best_way
from tools.gpu.models import SCENES, random_model, ready
from tools.gpu.rows import Note, Served
from tools.gpu.serving import Cores, Setup, Waiting, serving

START_NEEDS = 15.0  # seconds that a service takes to start, at the least
CORES_A_CLIENT_PROCESS = 4  # one process of clients for so many cores
SMALL_BATCH = 4  # of a rehearsal


def run(job: Job) -> Iterator[Served | Note]:
    written = job.scratch / "base"
    write_model(job, written)
    model = written if job.counts.serves == "base" else SCENES
    images = tuple(jpegs(range(DISTINCT if not job.on_cpu else 4)))
    batch = SMALL_BATCH if job.on_cpu else best_way(job.timings)[1]
    for number, plan in enumerate(job.counts.loads):
        setup = Setup(model, job.device, plan.workers, batch, plan.jpeg_draft, plan.gpu_resize)
        if job.left() < START_NEEDS + load_seconds(job):
            yield Note(f"{setup}: no time")
            continue
        folder = job.scratch / f"service-{number}"
        yield from served(job, setup, folder, plan.clients, images)


def served(
    job: Job, setup: Setup, folder: Path, levels: tuple[int, ...], images: tuple[bytes, ...]
) -> Iterator[Served | Note]:
    """Start a service and load it with each number of clients in turn."""
    try:
        with serving(setup, folder) as service:
            target = Target(service.host, service.port, images)
            for clients in levels:
                if job.left() < load_seconds(job):
                    yield Note(f"{setup}, {clients} clients: no time")
                    continue
                yield loaded(job, service, setup, target, clients)
    except StartupError as error:
        yield Note(f"{setup}: {error}")


def loaded(job: Job, service: ServiceProcess, setup: Setup, target: Target, clients: int) -> Served:
    processes = max(1, len(os.sched_getaffinity(0)) // CORES_A_CLIENT_PROCESS)
    waiting, cores, begun = Waiting(service), Cores(service), time.monotonic()
    warm, seconds = (job.stretch * n for n in (job.counts.warm_seconds, job.counts.load_seconds))
    window = Window.of(begun, warm=warm, seconds=seconds)
    answers = load(target, clients, processes, window)
    waits = sorted(answers.seconds)
    return Served(
        workers=setup.workers,
        clients=clients,
        batch_size=service.batch_size,
        jpeg_draft=setup.jpeg_draft,
        gpu_resize=setup.gpu_resize,
        images_per_second=len(answers.seconds) / window.seconds,
        p50=quantile(waits, 0.5) if waits else None,
        p99=quantile(waits, 0.99) if waits else None,
        failures=dict(answers.failures),
        waiting=waiting.parts(),
        busy_cores=cores.busy(time.monotonic() - window.start),
    )


def load_seconds(job: Job) -> float:
    """Return what one number of clients takes at most, if the answers do not stop to come."""
    counts = job.counts
    load = job.stretch * (counts.warm_seconds + counts.load_seconds)
    return START_SECONDS + load + LAST_SECONDS / 10


def write_model(job: Job, folder: Path) -> None:
    """Write BLIP-base's shape with random weights, in the Hugging Face layout, unless it is there.

    The random numbers are drawn on the device, which takes a second instead of many.
    """
    if (folder / "preprocessor_config.json").exists():
        return
    random_model("base", job.counts.layers, ready(job.device)).save_pretrained(folder)
    write_tokenizer(folder)
    write_processor(folder)  # the last file: with it the model is whole

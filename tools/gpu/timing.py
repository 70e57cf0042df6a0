"""Times of one batch, again and again."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from captiond.bench.run import NEW_TOKENS
from captiond.jobs import Generation
from captiond.settings.config import Precision
from tools.gpu.job import Job
from tools.gpu.models import Ours, Theirs, prompt_of, random_pixels, synchronized
from tools.gpu.rows import Note, Timing

WARM_UPS = 2  # the first run chooses kernels, takes memory and captures graphs
MOST_SECONDS = 4.0  # of the rounds of one batch; at least one is taken
SIDE = 384
GREEDY = Generation(max_new_tokens=NEW_TOKENS)


@dataclass(frozen=True, slots=True)
class Timed:
    """One engine, to be timed at several batch sizes; `encodes` to time the encoder by itself."""

    model: str
    precision: Precision
    engine: Ours | Theirs
    way: str = ""
    encodes: bool = False


def timings(
    job: Job, timed: Timed, batches: tuple[int, ...], device: torch.device
) -> Iterator[Timing | Note]:
    """Time batches of these sizes. A size that needs more than is left of the time or of the
    device's memory is left out.
    """
    longest = 0.0  # that a size has taken, warm-up included
    for batch in batches:
        label = f"{timed.model}, {timed.precision}, {timed.way or 'generate'}, batch {batch}"
        begun = job.left()
        if begun < longest + 1:
            yield Note(f"{label}: no time")
            continue
        try:
            yield timing(job, timed, batch, device)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            yield Note(f"{label}: no memory")
        longest = max(longest, begun - job.left())


def timing(job: Job, timed: Timed, batch: int, device: torch.device) -> Timing:
    pixels, prompt, engine = (
        random_pixels(batch, SIDE, device),
        prompt_of(device=device),
        timed.engine,
    )
    given = pixels if isinstance(engine, Ours) else engine.prepared(pixels)
    forget_peak(device)
    seconds = median_of(lambda: engine(given, prompt, GREEDY), job)
    encoding = None
    if timed.encodes and isinstance(engine, Ours):
        encoding = median_of(synchronized(device, lambda: engine.encode(pixels)), job)
    return Timing(
        model=timed.model,
        engine="captiond" if isinstance(engine, Ours) else "generate",
        precision=timed.precision,
        way=timed.way,
        batch=batch,
        tokens=NEW_TOKENS,
        seconds=seconds,
        encoding=encoding,
        memory_bytes=peak(device),
    )


def median_of(run: Callable[[], object], job: Job) -> float:
    """Return the median seconds of `run`, which waits for the device, after its warm-up."""
    for _ in range(WARM_UPS if job.counts.rounds > 1 else 1):
        run()
    taken: list[float] = []
    while len(taken) < job.counts.rounds and sum(taken) < MOST_SECONDS:
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int | None:
    """Return the most bytes of the device that were allocated at a time; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

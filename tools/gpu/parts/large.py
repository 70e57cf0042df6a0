"""BLIP-large's shape, in the way that was best for base, beside `generate` in bf16."""

from collections.abc import Iterator

from captiond.settings.config import Precision
from tools.gpu.job import Job, best_way
from tools.gpu.models import NAMED_WAYS, Ours, Theirs, random_model, ready
from tools.gpu.rows import Note, Timing
from tools.gpu.timing import Timed, timings

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp8")


def run(job: Job) -> Iterator[Timing | Note]:
    device, batches = ready(job.device), job.counts.large_batches
    model = random_model("large", job.counts.layers, device)
    way, _ = best_way(job.timings)
    for precision in PRECISIONS:
        ours = Timed("large", precision, Ours(model, precision, NAMED_WAYS[way]), way, encodes=True)
        yield from timings(job, ours, batches, device)
    theirs = Timed("large", "bf16", Theirs(model, "bf16"))
    yield from timings(job, theirs, batches[:2], device)

"""captiond's engine with BLIP-base's shape, in each of its ways, at each batch size."""

from collections.abc import Iterator

from tools.gpu.job import Job
from tools.gpu.models import WAYS, Ours, random_model, ready
from tools.gpu.rows import Note, Timing
from tools.gpu.timing import Timed, timings


def run(job: Job) -> Iterator[Timing | Note]:
    device = ready(job.device)
    model = random_model("base", job.counts.layers, device)
    for way in WAYS:
        ours = Ours(model, "bf16", way)
        timed = Timed("base", "bf16", ours, str(way), encodes=way == WAYS[0])
        yield from timings(job, timed, job.counts.batches, device)

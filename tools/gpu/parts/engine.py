"""captiond's engine with BLIP-base's shape, in each of its ways, at each batch size.

FP8 goes only the way that captiond takes by itself.
"""

from collections.abc import Iterator

from captiond.settings.config import Precision
from tools.gpu.job import Job
from tools.gpu.models import WAYS, Ours, Way, random_model, ready
from tools.gpu.rows import Note, Timing
from tools.gpu.timing import Timed, timings


def run(job: Job) -> Iterator[Timing | Note]:
    device = ready(job.device)
    model = random_model("base", job.counts.layers, device)
    kinds: list[tuple[Precision, Way]] = [("bf16", WAYS[0]), ("fp8", WAYS[0])]
    kinds += [("bf16", way) for way in WAYS[1:]]
    for precision, way in kinds:
        ours = Ours(model, precision, way)
        timed = Timed("base", precision, ours, str(way), encodes=way == WAYS[0])
        yield from timings(job, timed, job.counts.batches, device)

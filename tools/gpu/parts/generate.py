"""transformers' `generate` with BLIP-base's shape, in each precision, at each batch size.

One image at a time in fp32 is what a service does that calls `generate` as it comes. It goes first.
"""

from collections.abc import Iterator

from captiond.settings.config import Precision
from tools.gpu.job import Job
from tools.gpu.models import Theirs, random_model, ready
from tools.gpu.rows import Note, Timing
from tools.gpu.timing import Timed, timings


def run(job: Job) -> Iterator[Timing | Note]:
    device, batches = ready(job.device), job.counts.batches
    model = random_model("base", job.counts.layers, device)
    plan: tuple[tuple[Precision, tuple[int, ...]], ...] = (
        ("fp32", batches[-1:]),
        ("bf16", batches),
        ("fp16", () if job.on_cpu else batches[:3]),
        ("fp32", batches[:-1][:3]),
    )
    for precision, sizes in plan:
        theirs = Theirs(model, precision)
        yield from timings(job, Timed("base", precision, theirs), sizes, device)

"""The machine's own rates: matrix products of BLIP's sizes, and bytes copied and read."""

from collections.abc import Iterator
from itertools import chain

from captiond.bench.cases import CaseKind, Samples, measure
from captiond.bench.rates import memory_cases, product_cases
from captiond.bench.report import best
from captiond.settings.config import Precision
from tools.gpu.job import Job
from tools.gpu.models import ready
from tools.gpu.rows import Rate

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp8", "fp32")


def run(job: Job) -> Iterator[Rate]:
    device = ready(job.device)
    for precision in PRECISIONS:
        cases = chain(product_cases(device, precision), memory_cases(device))
        samples = measure(cases, job.counts.rounds, lambda _: None)
        yield from (rate(samples, kind, precision) for kind in (CaseKind.PRODUCT, CaseKind.MEMORY))


def rate(samples: Samples, kind: CaseKind, precision: str) -> Rate:
    fastest = best(samples, kind)
    return Rate(kind.value, precision, fastest.name, fastest.rate)

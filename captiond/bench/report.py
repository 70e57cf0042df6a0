"""Figures made of samples, and the settings that the figures suggest."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from captiond.bench.cases import Case, CaseKind, Sample, Samples
from captiond.bench.floor import BatchWork, Rates, floor_seconds
from captiond.bench.load import Load
from captiond.captioners.arithmetic import Arithmetic
from captiond.settings.config import Precision

WIDTHS: dict[Precision, int] = {
    "fp32": 4,
    "fp16": 2,
    "bf16": 2,
    "fp8": 1,
    "int8": 1,
}  # bytes of a number
ENOUGH = 0.97  # a batch size is good enough at this part of the best rate
AHEAD = 2  # decoders can decode this many times as many images as the model captions


@dataclass(frozen=True, slots=True)
class EngineFigure:
    """Seconds for each image at a batch size; None if the device had too little memory."""

    batch_size: int
    generate: float | None
    captiond: float | None
    floor: float | None
    ratio: float | None  # of captiond to `generate`
    of_floor: float | None  # the floor as a part of captiond's time
    new_tokens: float | None  # an image
    same: float | None  # the part of the images with the same tokens in both engines


@dataclass(frozen=True, slots=True)
class ServiceFigure:
    """What a number of clients get. `idle` is the waiting part of the model's time."""

    clients: int
    images_per_second: float
    p50: float  # seconds
    p99: float
    idle: dict[str, float]


@dataclass(frozen=True, slots=True)
class Best:
    """The best rate per second that any of several ways reached, and its name."""

    name: str
    rate: float


@dataclass(frozen=True, slots=True)
class PrecisionFloor:
    """What the machine would allow in one precision."""

    product: Best  # FLOP
    seconds: dict[int, float]  # for each image, by batch size


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that was measured."""

    product: Best  # FLOP, in the precision of the engine
    memory: Best  # bytes
    engine: tuple[EngineFigure, ...]
    decode: float  # seconds a JPEG
    service: tuple[ServiceFigure, ...]
    floors: dict[Precision, PrecisionFloor]


@dataclass(frozen=True, slots=True)
class Suggested:
    """Settings that fit the measured machine."""

    batch_size: int
    precision: str
    threads: int
    decoders: int


def figures(
    samples: Samples,
    works: dict[int, BatchWork],
    same: dict[int, float],
    model: Arithmetic,
    precision: Precision,
) -> Figures:
    """Return the figures of an engine in a precision. `works` and `same` are by batch size."""
    memory = best(samples, CaseKind.MEMORY)
    floors = precision_floors(samples, works, model, memory)
    product = floors[precision].product
    (decode,) = medians(samples, CaseKind.DECODE).values()
    return Figures(
        product,
        memory,
        engine_figures(samples, works, same, floors[precision].seconds),
        decode,
        tuple(service_figure(*measured) for measured in of_kind(samples, CaseKind.SERVICE)),
        floors,
    )


def precision_floors(
    samples: Samples, works: dict[int, BatchWork], model: Arithmetic, memory: Best
) -> dict[Precision, PrecisionFloor]:
    """Return the floor in each precision whose products were measured."""
    products = [*of_kind(samples, CaseKind.PRODUCT)]
    floors = {}
    for precision in dict.fromkeys(case.precision for case, _ in products if case.precision):
        product = best([one for one in products if one[0].precision == precision], CaseKind.PRODUCT)
        rates, width = Rates(product.rate, memory.rate), WIDTHS[precision]
        seconds = {
            size: floor_seconds(model, rates, work, width) / size for size, work in works.items()
        }
        floors[precision] = PrecisionFloor(product, seconds)
    return floors


def engine_figures(
    samples: Samples, works: dict[int, BatchWork], same: dict[int, float], floors: dict[int, float]
) -> tuple[EngineFigure, ...]:
    theirs, ours = medians(samples, CaseKind.GENERATE), medians(samples, CaseKind.CAPTIOND)
    return tuple(
        EngineFigure(
            batch_size=int(name),
            generate=theirs.get(name),
            captiond=ours.get(name),
            floor=floors.get(int(name)),
            ratio=ours[name] / theirs[name] if name in ours and name in theirs else None,
            of_floor=floors[int(name)] / ours[name] if name in ours else None,
            new_tokens=works[int(name)].tokens / int(name) if name in ours else None,
            same=same.get(int(name)),
        )
        for name in theirs | ours
    )


def of_kind(samples: Samples, kind: CaseKind) -> Iterable[tuple[Case, list[Sample]]]:
    return (measured for measured in samples if measured[0].kind is kind)


def best(samples: Samples, kind: CaseKind) -> Best:
    rates = (
        Best(case.name, case.amount / min(sample.seconds for sample in taken))
        for case, taken in of_kind(samples, kind)
    )
    return max(rates, key=lambda rate: rate.rate)


def medians(samples: Samples, kind: CaseKind) -> dict[str, float]:
    """Return the median seconds for an amount of one, by the name of the case."""
    return {
        case.name: statistics.median(sample.seconds for sample in taken) / case.amount
        for case, taken in of_kind(samples, kind)
    }


def service_figure(case: Case, taken: list[Sample]) -> ServiceFigure:
    loads: list[Load] = [sample.result for sample in taken]
    waits = sorted(wait for load in loads for wait in load.answers)
    seconds = statistics.median(load.seconds for load in loads)
    return ServiceFigure(
        clients=int(case.name),
        images_per_second=case.amount / seconds,
        p50=quantile(waits, 0.5),
        p99=quantile(waits, 0.99),
        idle=idle_parts(loads),
    )


def idle_parts(loads: list[Load]) -> dict[str, float]:
    """Return the parts of the time of all models, the largest first; empty without batches."""
    idle = defaultdict[str, float](float)
    for load in loads:
        for cause, seconds in load.idle.items():
            idle[cause] += seconds
    whole = sum(load.busy for load in loads) + sum(idle.values())
    ordered = sorted(idle, key=lambda cause: idle[cause], reverse=True)
    return {cause: idle[cause] / whole for cause in ordered}


def quantile(ordered: list[float], part: float) -> float:
    """Return the least value that `part` of the values do not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def suggested(measured: Figures, precision: str, threads: int, cores: int) -> Suggested:
    """Return settings for this machine: a small batch, and decoders faster than the model."""
    seconds = {figure.batch_size: figure.captiond for figure in measured.engine if figure.captiond}
    quickest = min(seconds.values())
    return Suggested(
        batch_size=min(size for size, took in seconds.items() if quickest / took >= ENOUGH),
        precision=precision,
        threads=threads,
        decoders=max(1, min(cores, math.ceil(AHEAD * measured.decode / quickest))),
    )

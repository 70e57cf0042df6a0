"""From samples to figures, and to the settings that they suggest."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from captiond.bench.cases import Case, Kind, Sample, Samples
from captiond.bench.floor import Arithmetic, Rates, Work, floor_seconds
from captiond.bench.load import Load

ENOUGH = 0.97  # of the best rate
AHEAD = 2  # decoders do so much more than the model takes


@dataclass(frozen=True, slots=True)
class EngineFigure:
    """Seconds an image at a batch size; None where there was no memory for it."""

    batch_size: int
    generate: float | None
    captiond: float | None
    floor: float | None
    ratio: float | None  # of ours to `generate`
    new_tokens: float | None  # an image
    same: float | None  # the part of the images that have the tokens of `generate`


@dataclass(frozen=True, slots=True)
class ServiceFigure:
    """What so many clients get; `idle` is the part of its time that the model waits, by cause."""

    clients: int
    images_per_second: float
    p50: float  # seconds
    p99: float
    idle: dict[str, float]


@dataclass(frozen=True, slots=True)
class Best:
    """The best that any of several ways reached, a second."""

    name: str
    rate: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured."""

    product: Best  # FLOP
    memory: Best  # bytes
    engine: tuple[EngineFigure, ...]
    decode: float  # seconds a JPEG
    service: tuple[ServiceFigure, ...]


@dataclass(frozen=True, slots=True)
class Suggested:
    """Settings that fit the machine as it was measured."""

    batch_size: int
    precision: str
    threads: int
    decoders: int


def figures(
    samples: Samples,
    works: dict[int, Work],
    same: dict[int, float],
    model: Arithmetic,
    width: int,
) -> Figures:
    """`works` and `same` by batch size, of numbers that are `width` bytes wide."""
    product, memory = best(samples, Kind.PRODUCT), best(samples, Kind.MEMORY)
    rates = Rates(product.rate, memory.rate)
    floors = {size: floor_seconds(model, rates, work, width) / size for size, work in works.items()}
    (decode,) = medians(samples, Kind.DECODE).values()
    return Figures(
        product,
        memory,
        engine_figures(samples, works, same, floors),
        decode,
        tuple(service_figure(*found) for found in of_kind(samples, Kind.SERVICE)),
    )


def engine_figures(
    samples: Samples, works: dict[int, Work], same: dict[int, float], floors: dict[int, float]
) -> tuple[EngineFigure, ...]:
    theirs, ours = medians(samples, Kind.GENERATE), medians(samples, Kind.CAPTIOND)
    return tuple(
        EngineFigure(
            batch_size=int(name),
            generate=theirs.get(name),
            captiond=ours.get(name),
            floor=floors.get(int(name)),
            ratio=ours[name] / theirs[name] if name in ours and name in theirs else None,
            new_tokens=works[int(name)].tokens / int(name) if name in ours else None,
            same=same.get(int(name)),
        )
        for name in theirs | ours
    )


def of_kind(samples: Samples, kind: Kind) -> Iterable[tuple[Case, list[Sample]]]:
    return (found for found in samples if found[0].kind is kind)


def best(samples: Samples, kind: Kind) -> Best:
    rates = (
        Best(case.name, case.amount / min(sample.seconds for sample in taken))
        for case, taken in of_kind(samples, kind)
    )
    return max(rates, key=lambda found: found.rate)


def medians(samples: Samples, kind: Kind) -> dict[str, float]:
    """Seconds for one, by the case's name."""
    return {
        case.name: statistics.median(sample.seconds for sample in taken) / case.amount
        for case, taken in of_kind(samples, kind)
    }


def service_figure(case: Case, taken: list[Sample]) -> ServiceFigure:
    loads: list[Load] = [sample.result for sample in taken]
    waits = sorted(wait for load in loads for wait in load.answers)
    seconds = statistics.median(sample.seconds for sample in taken)
    return ServiceFigure(
        clients=int(case.name),
        images_per_second=case.amount / seconds,
        p50=quantile(waits, 0.5),
        p99=quantile(waits, 0.99),
        idle=idle_parts(loads),
    )


def idle_parts(loads: list[Load]) -> dict[str, float]:
    """Of the time of all models, the largest first; empty where there were too few batches."""
    idle = defaultdict[str, float](float)
    for load in loads:
        for cause, seconds in load.idle.items():
            idle[cause] += seconds
    whole = sum(load.busy for load in loads) + sum(idle.values())
    ordered = sorted(idle, key=lambda cause: idle[cause], reverse=True)
    return {cause: idle[cause] / whole for cause in ordered}


def quantile(ordered: list[float], part: float) -> float:
    """The least value that so large a part does not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def suggested(found: Figures, precision: str, threads: int, cores: int) -> Suggested:
    """Settings for this machine: a small batch, and decoders that keep ahead of the model."""
    seconds = {figure.batch_size: figure.captiond for figure in found.engine if figure.captiond}
    quickest = min(seconds.values())
    return Suggested(
        batch_size=min(size for size, took in seconds.items() if quickest / took >= ENOUGH),
        precision=precision,
        threads=threads,
        decoders=max(1, min(cores, math.ceil(AHEAD * found.decode / quickest))),
    )

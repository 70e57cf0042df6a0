"""The tables of the parts, as Markdown."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from captiond.bench.floor import BatchWork, Rates, floor_seconds
from captiond.captioners.blip.cost import BlipShape, arithmetic
from tools.gpu.plan import Counts
from tools.gpu.rows import Agreement, Equality, Kernel, Rate, Resized, Served, Timing

BASE = BlipShape(
    side=384,
    patch=16,
    vision_width=768,
    vision_inner=3072,
    vision_layers=12,
    text_width=768,
    text_inner=3072,
    text_layers=12,
    text_heads=12,
    feature_width=768,
    vocabulary=30524,
)
SHAPES = {
    "base": BASE,
    "large": replace(
        BASE, vision_width=1024, vision_inner=4096, vision_layers=24, feature_width=1024
    ),
}
BYTES = {"bf16": 2, "fp16": 2, "fp8": 1, "fp32": 4}  # of a number
MEASURED_AS = {"fp16": "bf16"}  # both go through the same units of a GPU
Floor = Callable[[Timing], float | None]  # seconds of a batch; None where no rate was measured
Table = Callable[[Sequence[Any], Floor], str]


def floor_of(rates: Iterable[Rate], counts: Counts) -> Floor:
    """Return what gives the least time of a batch, by the rates that the machine has reached."""
    best = {(rate.kind, rate.precision): rate.rate for rate in rates}

    def floor(timing: Timing) -> float | None:
        precision = MEASURED_AS.get(timing.precision, timing.precision)
        product, memory = (best.get((kind, precision)) for kind in ("product", "memory"))
        if product is None or memory is None:
            return None
        work = BatchWork(timing.batch, timing.batch * timing.tokens, timing.tokens)
        model = arithmetic(shape_of(timing.model, counts.layers))
        return floor_seconds(model, Rates(product, memory), work, BYTES[timing.precision])

    return floor


def shape_of(model: str, layers: int | None) -> BlipShape:
    """Return a model's shape; `layers` is that of a rehearsal, whose models are cut short."""
    shape = SHAPES[model]
    return shape if layers is None else replace(shape, vision_layers=layers, text_layers=layers)


def floor_table(rates: Sequence[Rate], _: Floor) -> str:
    rows = ((rate.kind, rate.precision, rate_text(rate), rate.name) for rate in rates)
    return table(("the machine's best", "in", "a second", "by"), rows)


def rate_text(rate: Rate) -> str:
    unit = "TFLOP" if rate.kind == "product" else "TB"
    return f"{rate.rate / 1e12:,.3g} {unit}"


def equality_table(rows: Sequence[Equality], _: Floor) -> str:
    """All batches of a model, a search and a way are one line."""
    sums = defaultdict[tuple[str, str, str], list[tuple[int, int, int]]](list)
    for row in rows:
        sums[row.model, row.search, row.way].append((row.captions, row.equal, row.distinct))
    lines = [(*key, *map(str, map(sum, zip(*counts, strict=True)))) for key, counts in sums.items()]
    return table(("model", "search", "way", "captions", "as `generate`", "different"), lines)


def timing_table(rows: Sequence[Timing], floor: Floor) -> str:
    names = ("model", "engine", "in", "way", "batch", "images/s", "batch, ms")
    return table(
        (*names, "encoder, ms", "of the floor", "memory, GB"),
        (timing_line(row, floor) for row in rows),
    )


def timing_line(row: Timing, floor: Floor) -> tuple[str, ...]:
    least = floor(row)
    return (
        row.model,
        row.engine,
        row.precision,
        row.way or "-",
        str(row.batch),
        rate(row.images_per_second),
        milliseconds(row.seconds),
        milliseconds(row.encoding),
        "-" if least is None else f"{least / row.seconds:.2f}",
        "-" if row.memory_bytes is None else f"{row.memory_bytes / 1e9:.1f}",
    )


def resize_table(rows: Sequence[Resized], _: Floor) -> str:
    names = ("images", "as by Pillow", "batch, ms", "images/s", "from pageable memory, ms")
    return table(names, map(resize_line, rows))


def resize_line(row: Resized) -> tuple[str, ...]:
    return (
        f"{row.images} of {row.sizes}",
        f"{row.equal} of {row.checked}",
        milliseconds(row.seconds),
        rate(row.images / row.seconds),
        milliseconds(row.pageable_seconds),
    )


def service_table(rows: Sequence[Served], _: Floor) -> str:
    names = ("web", "JPEGs", "resized by", "clients", "images/s", "p50, ms", "p99, ms", "failed")
    return table((*names, "the model waits for", "busy cores"), map(service_line, rows))


def service_line(row: Served) -> tuple[str, ...]:
    return (
        str(row.workers),
        "draft" if row.jpeg_draft else "full",
        "GPU" if row.gpu_resize else "decoders",
        str(row.clients),
        rate(row.images_per_second),
        milliseconds(row.p50),
        milliseconds(row.p99),
        str(sum(row.failures.values())),
        ", ".join(f"{cause} {part:.1%}" for cause, part in row.waiting.items()) or "?",
        ", ".join(f"{kind} {cores:.1f}" for kind, cores in row.busy_cores.items()),
    )


def profile_table(rows: Sequence[Kernel], _: Floor) -> str:
    lines = ((row.name, f"{row.milliseconds:,.2f}", str(row.calls)) for row in rows)
    return table(("kernel", "ms", "calls"), lines)


def agreement_table(rows: Sequence[Agreement], _: Floor) -> str:
    lines = (
        (row.precision, f"{row.right / row.scenes:.2%}", f"{row.same / row.scenes:.2%}")
        for row in rows
    )
    return table(("in", "right", "as in fp32"), lines)


TABLES: dict[str, Table] = {
    "floor": floor_table,
    "equality": equality_table,
    "engine": timing_table,
    "generate": timing_table,
    "resize": resize_table,
    "service": service_table,
    "large": timing_table,
    "profile": profile_table,
    "agreement": agreement_table,
}


def rate(value: float) -> str:
    """Return a rate in three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:,.1f}"


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)

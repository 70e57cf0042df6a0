"""The text of a run: the few figures that count, then a table for each part."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from tools.gpu.plan import FULL, SMALL
from tools.gpu.rows import Agreement, Equality, Outcome, Rate, Served, Timing
from tools.gpu.tables import TABLES, Floor, floor_of, rate

T = TypeVar("T")
Parts = Mapping[str, Outcome]


def report(machine: Mapping[str, str], parts: Parts) -> str:
    """Return all of a run as Markdown; what has no rows is left out."""
    counts = SMALL if machine["counts"] == "small" else FULL
    floor = floor_of(of_type(parts, "floor", Rate), counts)
    about = ", ".join(f"{key}: {value}" for key, value in machine.items())
    sections = (section(name, done, floor) for name, done in parts.items())
    return "\n\n".join([about, *headlines(parts), *sections]) + "\n"


def of_type(parts: Parts, name: str, kind: type[T]) -> list[T]:
    """Return the rows of a part; none of a part that has not run."""
    rows = parts[name].rows if name in parts else []
    return [row for row in rows if isinstance(row, kind)]


def section(name: str, done: Outcome, floor: Floor) -> str:
    """Return how a part went, its table, and what it had to leave out."""
    blocks = [f"## {name}: {done.state}, {done.seconds:g} s"]
    if done.rows:
        blocks.append(TABLES[name](done.rows, floor))
    if done.notes:
        blocks.append("\n".join(f"- {note}" for note in done.notes))
    return "\n\n".join(blocks)


def headlines(parts: Parts) -> Iterator[str]:
    engine, theirs = of_type(parts, "engine", Timing), of_type(parts, "generate", Timing)
    for precision in dict.fromkeys(row.precision for row in engine):
        yield engine_line(fastest([row for row in engine if row.precision == precision]), theirs)
    if large := [row for row in of_type(parts, "large", Timing) if row.engine == "captiond"]:
        yield engine_line(fastest(large), [])
    if served := of_type(parts, "service", Served):
        best = max(served, key=lambda row: row.images_per_second)
        yield (
            f"Service: {rate(best.images_per_second)} images/s over HTTP with {best.workers} web "
            f"processes and {best.clients} clients."
        )
    if equality := of_type(parts, "equality", Equality):
        equal, captions = (
            sum(getattr(row, key) for row in equality) for key in ("equal", "captions")
        )
        yield f"Equality: {equal:,} of {captions:,} captions in fp32 have the tokens of `generate`."
    for row in of_type(parts, "agreement", Agreement):
        yield f"Agreement in {row.precision}: {row.right / row.scenes:.2%} of {row.scenes:,} right."


def fastest(rows: list[Timing]) -> Timing:
    return max(rows, key=lambda row: row.images_per_second)


def engine_line(best: Timing, theirs: list[Timing]) -> str:
    line = (
        f"Engine, {best.model}: {rate(best.images_per_second)} images/s ({best.precision}, "
        f"{best.way}, batch {best.batch})"
    )
    return "; ".join([line, *ratios(best, theirs)]) + "."


def ratios(best: Timing, theirs: list[Timing]) -> Iterator[str]:
    """Return how much faster it is than `generate` at its best, and one by one in fp32."""
    if theirs:
        rival = fastest(theirs)
        times = best.images_per_second / rival.images_per_second
        yield f"{times:.1f} x `generate` at its best ({rival.precision}, batch {rival.batch})"
    for row in theirs:
        if (row.precision, row.batch) == ("fp32", 1):
            times = best.images_per_second / row.images_per_second
            yield f"{rate(times)} x `generate` in fp32, one image at a time"

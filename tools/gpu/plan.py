"""What is measured, in which order, how much of it, and how long each part may take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CountsName = Literal["full", "small"]
TOTAL_SECONDS = 500.0  # with the installation before it, at most nine minutes
LEAST_SECONDS = 8.0  # a part that has less is left out: it would end while it still loads


@dataclass(frozen=True, slots=True)
class Part:
    """A module of `tools.gpu.parts`, and the most seconds that it may take."""

    name: str
    seconds: float


# By worth: what comes last is lost first. Equality is early because the rest means little without.
PARTS = (
    Part("floor", 25),
    Part("equality", 45),
    Part("engine", 105),
    Part("generate", 55),
    Part("resize", 15),
    Part("service", 140),
    Part("large", 50),
    Part("profile", 25),
    Part("agreement", 40),
)


@dataclass(frozen=True, slots=True)
class Load:
    """A service's web processes, the numbers of clients that it gets, how it decodes JPEGs, and who
    resizes images."""

    workers: int
    clients: tuple[int, ...]
    jpeg_draft: bool = False
    gpu_resize: bool = True


@dataclass(frozen=True, slots=True)
class Counts:
    """How much the parts do."""

    layers: int | None  # of the random models' two halves; None: as many as BLIP has
    batches: tuple[int, ...]  # largest first: smaller ones fit into the memory taken for them
    large_batches: tuple[int, ...]
    odd_batches: tuple[int, ...]  # of the equality with `generate`
    rounds: int  # of each timing, after its warm-up
    scenes: int
    loads: tuple["Load", ...]
    serves: Literal["base", "captiond/scenes"]  # a busy processor answers too few of base
    load_seconds: float  # of each number of clients, after `warm_seconds`
    warm_seconds: float


FULL = Counts(
    layers=None,
    batches=(256, 128, 64, 32, 8, 1),
    large_batches=(256, 128, 64, 32),
    odd_batches=(7, 33, 1, 3),
    rounds=5,
    scenes=2000,
    loads=(
        Load(8, (512, 128)),
        Load(8, (512, 256), jpeg_draft=True),
        Load(8, (512,), gpu_resize=False),
        Load(8, (512,), jpeg_draft=True, gpu_resize=False),
        Load(4, (512,)),
    ),
    serves="base",
    load_seconds=6,
    warm_seconds=2,
)
SMALL = Counts(
    layers=1,
    batches=(2, 1),
    large_batches=(2,),
    odd_batches=(3, 1),
    rounds=1,
    scenes=40,
    loads=(Load(2, (8, 2)),),
    serves="captiond/scenes",
    load_seconds=3,
    warm_seconds=1,
)
COUNTS: dict[CountsName, Counts] = {"full": FULL, "small": SMALL}


def chosen(names: Sequence[str]) -> tuple[Part, ...]:
    """Return the parts of these names in their order; all of them for no name.

    Raises:
        ValueError: no part has one of the names.
    """
    unknown = set(names) - {part.name for part in PARTS}
    if unknown:
        known = ", ".join(part.name for part in PARTS)
        raise ValueError(f"no such part: {', '.join(sorted(unknown))}; there are {known}")
    return tuple(part for part in PARTS if not names or part.name in names)


def allowance(part: Part, left: float, stretch: float = 1.0) -> float | None:
    """Return the seconds that a part may take of those that are left, None if it is left out."""
    seconds = min(part.seconds * stretch, left)
    return seconds if seconds >= LEAST_SECONDS else None

"""What is measured, and how: in turn, round after round, so that all share the weather."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from captiond.captioners.memory import told_as_out_of_memory
from captiond.errors import OutOfMemory


class Kind(StrEnum):
    GENERATE = "generate"
    CAPTIOND = "captiond"
    SERVICE = "service"
    DECODE = "decode"
    PRODUCT = "product"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time; `amount` is what it does: images, FLOP, bytes."""

    kind: Kind
    name: str
    amount: float
    run: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a case gave, and how long it took."""

    seconds: float
    result: Any


Tell = Callable[[Case], None]
Samples = list[tuple[Case, list[Sample]]]


def measure(cases: Iterable[Case], rounds: int, tell: Tell) -> Samples:
    """A warm-up, from the last case to the first, since the largest may have everything laid out
    anew; then the rounds. A case that the device has no memory for is left out.
    """
    found: Samples = [(case, []) for case in reversed([*cases]) if warmed_up(case, tell)]
    found.reverse()
    for _ in range(rounds):
        for case, samples in found:
            tell(case)
            samples.append(timed(case))
    return found


def warmed_up(case: Case, tell: Tell) -> bool:
    tell(case)
    try:
        with told_as_out_of_memory():
            case.run()
    except OutOfMemory:
        return False
    return True


def timed(case: Case) -> Sample:
    begun = time.perf_counter()
    result = case.run()
    return Sample(time.perf_counter() - begun, result)

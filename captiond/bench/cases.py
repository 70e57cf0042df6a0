"""What is measured, and in which order: all cases in turn, round after round.

So all cases share the same conditions, if the speed of the machine changes meanwhile.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from captiond.captioners.memory import raising_out_of_memory
from captiond.errors import OutOfMemory
from captiond.settings.config import Precision


class CaseKind(StrEnum):
    """What a case measures."""

    GENERATE = "generate"
    CAPTIOND = "captiond"
    SERVICE = "service"
    DECODE = "decode"
    PRODUCT = "product"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time. `amount` is what one run processes: images, FLOP or bytes."""

    kind: CaseKind
    name: str
    amount: float
    run: Callable[[], Any]
    precision: Precision | None = None  # of a product


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a case: its result, and how long it took."""

    seconds: float
    result: Any


OnCase = Callable[[Case], None]  # is called before each run
Samples = list[tuple[Case, list[Sample]]]


def measure(cases: Iterable[Case], rounds: int, on_case: OnCase) -> Samples:
    """Run every case once to warm up, then `rounds` times, and return the samples.

    The warm-up goes from the last case to the first, because the largest batch may cause buffers to
    be allocated again. A case for which the device has too little memory is left out.
    """
    samples: Samples = [(case, []) for case in reversed([*cases]) if warmed_up(case, on_case)]
    samples.reverse()
    for _ in range(rounds):
        for case, taken in samples:
            on_case(case)
            taken.append(timed(case))
    return samples


def warmed_up(case: Case, on_case: OnCase) -> bool:
    """Run a case; return whether the device has enough memory for it."""
    on_case(case)
    try:
        with raising_out_of_memory():
            case.run()
    except OutOfMemory:
        return False
    return True


def timed(case: Case) -> Sample:
    begun = time.perf_counter()
    result = case.run()
    return Sample(time.perf_counter() - begun, result)

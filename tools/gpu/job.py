"""What a part is asked to do; it travels to the part's process as JSON."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.gpu.plan import COUNTS, Counts, CountsName
from tools.gpu.rows import Timing

PROJECTED_WITH_GRAPHS = "graphs, projected"
NEARLY = 0.97  # of the best rate: the smallest such batch is taken


@dataclass(frozen=True, slots=True)
class Job:
    """`timings` are those of the engine, if that part has run: later parts take its best way."""

    part: str
    device: str
    counts_name: CountsName
    folder: str  # for files that parts leave to each other
    seconds: float
    timings: list[Timing] = field(default_factory=list)
    stretch: float = 1.0  # of the time that a load of clients lasts
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read a job; its time begins now."""
        values: dict[str, Any] = json.loads(text)
        timings = [Timing(**row) for row in values.pop("timings")]
        return cls(**values, timings=timings)

    @property
    def counts(self) -> Counts:
        return COUNTS[self.counts_name]

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def scratch(self) -> Path:
        return Path(self.folder)

    def left(self) -> float:
        """Return the seconds until the part must have ended."""
        return self.begun + self.seconds - time.monotonic()


def best_way(timings: Sequence[Timing]) -> tuple[str, int]:
    """Return the engine's best way in bf16, and its smallest batch whose rate is nearly the best.

    Without timings, the way that captiond takes by itself, and a usual batch.
    """
    timings = [timing for timing in timings if timing.precision == "bf16"]
    if not timings:
        return PROJECTED_WITH_GRAPHS, 64
    best = max(timings, key=lambda timing: timing.images_per_second)
    enough = NEARLY * best.images_per_second
    same = [timing for timing in timings if timing.way == best.way]
    return best.way, min(row.batch for row in same if row.images_per_second >= enough)

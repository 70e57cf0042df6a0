"""What the parts report: one row for each figure, as data that goes through JSON."""

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Rate:
    """The best rate of the machine in one kind of work: FLOP or bytes a second."""

    kind: str  # "product" or "memory"
    precision: str
    name: str
    rate: float


@dataclass(frozen=True, slots=True)
class Equality:
    """How many captions of a batch have the tokens of `generate`."""

    model: str
    way: str  # "graphs, projected"
    search: str
    images: int
    captions: int
    equal: int
    distinct: int  # different captions among those of `generate`


@dataclass(frozen=True, slots=True)
class Timing:
    """A batch, captioned; seconds are the median of the rounds."""

    model: str  # "base" or "large"
    engine: str  # "captiond" or "generate"
    precision: str
    way: str  # of captiond: "graphs, projected"
    batch: int
    tokens: int  # new ones of each image
    seconds: float
    encoding: float | None  # of them, in the vision encoder
    memory_bytes: int | None  # the most that was allocated on the device

    @property
    def images_per_second(self) -> float:
        return self.batch / self.seconds


@dataclass(frozen=True, slots=True)
class Resized:
    """A batch that is resized on the GPU; seconds are the median of the rounds.

    `equal` is how many of the `checked` images are as by Pillow. From pageable memory, the host
    copies them.
    """

    sizes: str
    images: int
    checked: int
    equal: int
    seconds: float
    pageable_seconds: float


@dataclass(frozen=True, slots=True)
class Served:
    """What clients over HTTP get; `waiting` and `busy_cores` are parts of the time, and cores."""

    workers: int
    clients: int
    batch_size: int
    jpeg_draft: bool  # how JPEGs are decoded
    gpu_resize: bool  # who resizes images
    images_per_second: float
    p50: float | None  # seconds; None where no answer came in time
    p99: float | None
    failures: dict[str, int]
    waiting: dict[str, float]  # of the model's time, by cause
    busy_cores: dict[str, float]  # by kind of process


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kind of kernel in a batch; the whole batch is a row as well, named `WHOLE`."""

    name: str
    milliseconds: float
    calls: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many captions of drawn scenes are right, and how many are those of fp32."""

    precision: str
    scenes: int
    right: int
    same: int


@dataclass(frozen=True, slots=True)
class Note:
    """What a part left out or could not do, and why."""

    text: str


WHOLE = "the whole batch"
Row: TypeAlias = Rate | Equality | Timing | Resized | Served | Kernel | Agreement
ROWS: dict[str, type[Row]] = {
    "floor": Rate,
    "equality": Equality,
    "engine": Timing,
    "generate": Timing,
    "resize": Resized,
    "service": Served,
    "large": Timing,
    "profile": Kernel,
    "agreement": Agreement,
}


@dataclass(slots=True)
class Outcome:
    """What has become of a part: "finished", "failed", "out of time" or "interrupted"."""

    state: str = "running"
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

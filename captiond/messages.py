"""Everything that crosses a process boundary, one frozen dataclass for each message.

web → supervisor      Alive, Ask, Drop, Queued, Cancelled, Measured
supervisor → web      State, Answer, Drain
supervisor → model    Go, Work, Withdraw, Drain
model → supervisor    Alive, CacheReady, Ready, Unready, Begun, Finished, Measured
model → decoder       Decode
decoder → model       Decoded, Refused
"""

from dataclasses import dataclass
from enum import StrEnum

from captiond.jobs import (
    DEFAULT_OPTIONS,
    FinishedTask,
    Lane,
    Options,
    Outcome,
    Refused,
    SpooledImage,
)
from captiond.metrics import Measurements


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that a ready model process runs."""

    name: str
    requested: str
    fingerprint: str
    device: str
    precision: str
    batch_size: int

    @property
    def is_fallback(self) -> bool:
        return self.name != self.requested


@dataclass(frozen=True, slots=True)
class Ask:
    """A client waits for this image's caption. `ticket` is unique within its web process."""

    ticket: int
    image: SpooledImage
    options: Options = DEFAULT_OPTIONS


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody waits for this ticket any more."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Queued:
    """A task's rows are in the database; a hint, which may be lost."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """These images were being worked on, and their task is cancelled; a hint, as above."""

    image_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Timings:
    """Where an image's time went in a model process, in seconds."""

    decode: float = 0.0
    queue: float = 0.0
    model: float = 0.0
    tags: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of an `Ask`."""

    ticket: int
    outcome: Outcome
    timings: Timings = Timings()


class Health(StrEnum):
    """Whether the service can caption; if not, whether that mends itself."""

    HEALTHY = "healthy"
    STARTING = "starting"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class State:
    """What the service can do at present, as every web process is told it.

    `model` is the model that captions, or the last that did; `reasons` say why it does not.
    """

    health: Health = Health.STARTING
    model: ModelInfo | None = None
    reasons: tuple[str, ...] = ("the model is being loaded",)
    code: str = "model_not_ready"
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One image for a model process.

    `ticket` is unique within the supervisor. One that is `alone` is a batch by itself, because its
    process died on it before. A bulk image has its row's `image_id` and the
    `attempt` that fences its result; an interactive one has neither row nor result to be fenced.
    """

    ticket: str
    lane: Lane
    image: SpooledImage
    image_id: int | None = None
    attempt: int = 0
    options: Options = DEFAULT_OPTIONS
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The caption of this work is no longer wanted. The work is not started if it has not been yet.

    `Finished` follows in any case.
    """

    ticket: str


@dataclass(frozen=True, slots=True)
class Begun:
    """The model or the taggers have these in hand now, until the next such message: should the
    process die, it is by them.
    """

    tickets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alive:
    """A web process: it begins to listen. A model process, every second: it is not hung."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A `Work` is finished. A bulk outcome is in the database before this is sent.

    `stored` is false if the database did not take the outcome, because the claim is no longer
    valid. `task` is set if the image was the last of its task.
    """

    ticket: str
    outcome: Outcome
    timings: Timings = Timings()
    stored: bool = True
    task: FinishedTask | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a web or a model process has measured since its last such message."""

    measurements: Measurements


@dataclass(frozen=True, slots=True)
class Go:
    """Load the model; until then a model process stands by, with its libraries imported."""


@dataclass(frozen=True, slots=True)
class CacheReady:
    """A model process is loading its model, and can already finish bulk images that the cache
    knows: it takes at most `window` images. It keeps the other images until the model is loaded.
    """

    window: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A model process can take work: at most `window` images of each lane in its hands at once."""

    model: ModelInfo
    window: int


@dataclass(frozen=True, slots=True)
class Unready:
    """A model process cannot load its model, and ends."""

    reason: str
    code: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what is in hand, take nothing new, end."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode an image into a slot of the memory that the two processes share."""

    image: SpooledImage
    slot: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """The slot is filled. `width` and `height` are of the upright image, in pixels."""

    width: int
    height: int


Message = (
    Ask
    | Drop
    | Queued
    | Cancelled
    | Answer
    | State
    | Work
    | Withdraw
    | Begun
    | Alive
    | Finished
    | Measured
    | Go
    | CacheReady
    | Ready
    | Unready
    | Drain
    | Decode
    | Decoded
    | Refused
)

"""Every message that crosses a process boundary: one frozen dataclass each.

from        to          messages
web         supervisor  Alive, Ask, Drop, Queued, Cancelled, TasksChanged, Measured, AskMetrics
supervisor  web         Keys, State, Answer, TasksChanged, MetricsAnswer, Drain
supervisor  model       Go, Work, Withdraw, Drain
model       supervisor  Alive, CacheReady, Ready, Unready, Begun, Finished, Measured
model       decoder     Decode, Proceed
decoder     model       Decoded, Refused

A message is a hint: the database holds what must not be lost. A lost, late or duplicate message
never loses or duplicates a result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from captiond.clients import Client
from captiond.jobs import (
    DEFAULT_OPTIONS,
    NOBODY,
    FinishedTask,
    Lane,
    Options,
    Outcome,
    Refused,
    SpooledImage,
)
from captiond.keys import Key
from captiond.recording import Measurements


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that a model process runs.

    `requested` is the model that the settings name; `name` differs from it while a fallback runs.
    """

    name: str
    requested: str
    fingerprint: str
    device: str
    precision: str
    batch_size: int
    unsupported: tuple[str, ...] = ()  # options of requests that this model cannot serve
    choices: Mapping[str, str | int] = field(default_factory=dict)  # how it computes on a CPU
    untranslated: tuple[str, ...] = ()  # languages of the settings whose model does not work

    @property
    def is_fallback(self) -> bool:
        return self.name != self.requested


@dataclass(frozen=True, slots=True)
class Ask:
    """A client waits for the captions of these images, the images of one request.

    The first image has the number `ticket`, which is unique within the web process; the others have
    the numbers that follow it. `known_only` asks for captions that the cache knows. It is set while
    no model captions. `since` is the time of `time.monotonic`, which is the same in all processes
    of a machine, at which the images began to wait; 0 if it is not known.
    """

    ticket: int
    images: tuple[SpooledImage, ...]
    options: Options = DEFAULT_OPTIONS
    known_only: bool = False
    client: Client = NOBODY
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Drop:
    """The client of these tickets no longer waits."""

    tickets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Queued:
    """A new task is in the database."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A task is cancelled; a hint, which may be lost.

    `image_ids` are the images that model processes had. `file` is the task's spool file, which
    nobody needs any more.
    """

    image_ids: tuple[int, ...]
    file: str | None = None


@dataclass(frozen=True, slots=True)
class TasksChanged:
    """These tasks have a new revision. Every web process gets it, for the clients that wait there.

    A web process that changes a task sends it to the supervisor, which passes it on to all.
    """

    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Timings:
    """The time of one image in each stage of a model process, in seconds."""

    decode: float = 0.0
    queue: float = 0.0
    model: float = 0.0
    translation: float = 0.0
    tags: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one image of an `Ask`."""

    ticket: int
    outcome: Outcome
    timings: Timings = Timings()


class Health(StrEnum):
    """Whether the service can caption images.

    STARTING and DEGRADED pass without help; UNHEALTHY needs an operator.
    """

    HEALTHY = "healthy"
    STARTING = "starting"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class State:
    """What the service can do now; every web process gets each change.

    `model` is the model that captions, or the last one that did. `reasons` say why the service
    cannot caption.
    `spool_free` is how many bytes tasks may still store, and `disk_free` how many bytes all uploads
    may, or None if there is no limit. `bulk_rate` is how many images of tasks were finished per
    second in the last minutes, or 0 if that is not known.
    `disk_writable` says whether the disk takes uploads at all.
    `cache` says whether a process that loads its model can already answer known images.
    """

    health: Health = Health.STARTING
    model: ModelInfo | None = None
    reasons: tuple[str, ...] = ("the model is being loaded",)
    code: str = "model_not_ready"
    draining: bool = False
    spool_free: int | None = None
    disk_free: int | None = None
    disk_writable: bool = True
    bulk_rate: float = 0.0
    cache: bool = False

    @property
    def cannot_store(self) -> str:
        """Why no image of a client can be stored now. Empty if one can."""
        if not self.disk_writable:
            return "the data folder cannot be written"
        if self.disk_free == 0:
            return "the disk has too little free space ([limits] reserve_bytes)"
        return ""

    @property
    def reported_health(self) -> Health:
        """The health that probes and metrics report. It is degraded if no image can be stored."""
        healthy = self.health is Health.HEALTHY
        return Health.DEGRADED if healthy and self.cannot_store else self.health

    @property
    def reported_reasons(self) -> tuple[str, ...]:
        """Why no image of a client can be captioned now."""
        storage = self.cannot_store
        return (*self.reasons, storage) if storage else self.reasons


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that are valid now; every web process gets each change.

    If keys are `required`, a request without one is refused. They may be required although there is
    none: all may be revoked.
    """

    keys: tuple[Key, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One image for a model process to caption.

    `ticket` is unique within the supervisor. An image is `alone` in its batch if a process died
    while it worked on the image before. A bulk image has the `image_id` of its row, its `task_id`,
    and the `attempt` that fences its outcome; an interactive image has no row. An image that is
    `known_only` is refused by a process whose model is not loaded yet, unless the cache knows it.
    The images of each `client` have their turns. `since` is that of `Ask`.
    """

    ticket: str
    lane: Lane
    image: SpooledImage
    image_id: int | None = None
    attempt: int = 0
    options: Options = DEFAULT_OPTIONS
    alone: bool = False
    known_only: bool = False
    client: Client = NOBODY
    task_id: str | None = None
    since: float = 0.0

    @property
    def ids(self) -> dict[str, str]:
        """The ids of its request and of its task, as fields of log entries."""
        origin = self.options.origin
        request = {"request_id": origin.request_id} if origin and origin.request_id else {}
        return request if self.task_id is None else {**request, "task_id": self.task_id}


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The caption of this work is no longer wanted. It is not started if it has not been yet.

    `Finished` follows in any case.
    """

    ticket: str


@dataclass(frozen=True, slots=True)
class Begun:
    """The model and the taggers now work on exactly these images.

    If the process dies before the next such message, one of them may be the cause.
    """

    tickets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alive:
    """A web process or a model process begins its work; or, every second, it shows that it runs."""


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
class Imported:
    """A standby process has imported its libraries, and can replace a process that dies."""


@dataclass(frozen=True, slots=True)
class AskMetrics:
    """A client of a web process wants the metrics of all processes. `number` is for the answer."""

    number: int


@dataclass(frozen=True, slots=True)
class MetricsAnswer:
    """The metrics of all processes."""

    number: int
    metrics: Measurements


@dataclass(frozen=True, slots=True)
class Go:
    """Load the model. Until this message, a model process stands by with its imports done."""


@dataclass(frozen=True, slots=True)
class CacheReady:
    """A model process is loading its model, and already finishes images that the cache knows.

    It takes at most `window` images of each lane. It keeps unknown bulk images until the model is
    loaded, and takes interactive images only if they are `known_only`.
    """

    window: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A model process takes work: at most `window` unfinished images of each lane.

    It takes `reserve` more interactive images of clients that have no other image there.
    """

    model: ModelInfo
    window: int
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Unready:
    """A model process cannot load its model, and exits."""

    reason: str
    code: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish the current work, take no new work, and exit."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Decode an image into a slot of the memory that both processes share.

    The image is in the spool's folder, or in the decoder's `Handover` if it is `handed_over`.
    """

    image: SpooledImage
    slot: int
    handed_over: bool = False


@dataclass(frozen=True, slots=True)
class Proceed:
    """Whether a decoder that has asked for memory may have it."""

    granted: bool


@dataclass(frozen=True, slots=True)
class Decoded:
    """The slot holds the pixels. `width` and `height` are those of the upright image, in pixels.

    `stored` is the width and the height of what is in the slot.
    """

    width: int
    height: int
    stored: tuple[int, int]


Message = (
    Ask
    | Drop
    | Queued
    | Cancelled
    | TasksChanged
    | Answer
    | State
    | Keys
    | Work
    | Withdraw
    | Begun
    | Imported
    | Alive
    | Finished
    | Measured
    | AskMetrics
    | MetricsAnswer
    | Go
    | CacheReady
    | Ready
    | Unready
    | Drain
    | Decode
    | Proceed
    | Decoded
    | Refused
)

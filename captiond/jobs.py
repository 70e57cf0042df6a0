"""Tasks and their images: states, legal transitions, and what a client reads about them.

Pure: no I/O, no clock, no randomness of its own.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from captiond.errors import CaptiondError
from captiond.tags import Tag, TagFilter, TagOptions


class Status(StrEnum):
    """The state of a task or of one image."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


Transitions = Mapping[Status, frozenset[Status]]

# From each state, the states that may follow it. The guards of the store's UPDATE statements are
# derived from these two tables.
IMAGE_TRANSITIONS: Transitions = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.CANCELLED}),
    # Back to PENDING when the process that claimed the image has died.
    Status.PROCESSING: frozenset(
        {Status.PENDING, Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    ),
    Status.COMPLETED: frozenset(),
    # Back to PENDING by `captiond tasks retry`.
    Status.FAILED: frozenset({Status.PENDING}),
    Status.CANCELLED: frozenset(),
}
TASK_TRANSITIONS: Transitions = {
    Status.PENDING: frozenset({Status.PROCESSING, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    # Back to PENDING by `captiond tasks retry`.
    Status.COMPLETED: frozenset({Status.PENDING}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.CANCELLED: frozenset(),
}
TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


def states_before(transitions: Transitions, *new: Status) -> tuple[Status, ...]:
    """Return the states from which a task or an image may enter each of the states `new`."""
    return tuple(state for state in Status if transitions[state].issuperset(new))


class Lane(StrEnum):
    """Who waits: a client on its connection, or a task in the database."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Generation:
    """How captions are searched for: greedily with one beam, by beam search with more.

    `prompt` is what each caption continues; it counts for none of the new tokens. Of beams that are
    more than one, the best `num_captions` are told.
    """

    prompt: str = ""
    num_beams: int = 1
    max_new_tokens: int = 20
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0
    num_captions: int = 1


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption; `score` is the mean log-probability of its new tokens, the end among them."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Options:
    """What a request asks for, beside the defaults of the settings; the same for all its images."""

    generation: Generation | None = None  # the settings'
    no_cache: bool = False
    language: str | None = None
    tags: TagOptions = field(default_factory=TagOptions)


DEFAULT_OPTIONS = Options()


@dataclass(frozen=True, slots=True)
class Captioned:
    """What captioning gave for one image. `width` and `height` are of the upright image, pixels.

    `tags` are the texts of `tag_details`, sorted; the details come by their salience. `captions`
    are all that were found, best first, where more than one was asked for.
    """

    caption: str
    tags: tuple[str, ...]
    model: str
    width: int
    height: int
    cached: bool = False
    tag_details: tuple[Tag, ...] = ()
    score: float | None = None
    captions: tuple[Caption, ...] = ()

    def with_tags(self, tags: tuple[Tag, ...], wanted: TagFilter) -> "Captioned":
        """The same with those of `tags` that are wanted."""
        details = wanted.select(tags)
        return replace(self, tags=tuple(sorted(tag.tag for tag in details)), tag_details=details)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one image has no caption: a sentence for a person, a stable code for a program."""

    error: str
    code: str
    status: int = 400

    @classmethod
    def of(cls, error: CaptiondError) -> "Refused":
        return cls(error=str(error), code=error.code, status=error.status)


Outcome = Captioned | Refused

# Codes of refusals that another try may mend: they tell of the machine as much as of the image.
RETRYABLE = frozenset({"poison_image", "image_too_slow", "out_of_memory", "spool_error"})


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """The bytes of one uploaded image: `size` bytes at `offset` of the spool file named `file`.

    `sha256` is the hash of these bytes, in hex.
    """

    file: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class NewImage:
    """One uploaded file of a new task. `spooled` is None if the file was `refused` at upload."""

    filename: str
    spooled: SpooledImage | None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be accepted; `spool` names the file that holds its images, None if there is none.

    `key` is the client's Idempotency-Key, `digest` a hash of all that it sent with it. Whoever
    listens at `callback_url` is told of the end.
    """

    id: str
    spool: str | None
    images: tuple[NewImage, ...]
    created_at: float
    key: str | None = None
    digest: str | None = None
    options: Options = DEFAULT_OPTIONS
    callback_url: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is an image to caption; else the task ends as it is accepted."""
        return any(image.refused is None for image in self.images)


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """A task that is finished. `keeps_file` if images of it may be retried from its spool file."""

    keeps_file: bool


@dataclass(frozen=True, slots=True)
class ImageView:
    """One image of a task as it stands; `outcome` once it is COMPLETED or FAILED."""

    filename: str
    sha256: str | None
    status: Status
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as it stands. Times are Unix seconds; `images` are in upload order."""

    id: str
    status: Status
    created_at: float
    started_at: float | None
    finished_at: float | None
    images: tuple[ImageView, ...]

    @property
    def done(self) -> int:
        return sum(1 for image in self.images if image.status.terminal)

    @property
    def failed(self) -> int:
        return sum(1 for image in self.images if image.status is Status.FAILED)


# Points of blame. An image that has any is captioned alone, so that the next death tells.
BLAME_LIMIT = 6
WITH_OTHERS = (
    1  # its process died while it was in a batch with others: any of them may have done it
)
ALONE = 3  # the process crashed, or hung, with nothing but this image in hand
KILLED_ALONE = 1  # it was killed or stopped by somebody, or by the kernel for want of memory


class Death(StrEnum):
    """How a process ended, as far as an image in its hands is concerned."""

    CRASHED = "crashed"
    HUNG = "hung"
    KILLED = "killed"
    ORDERLY = "orderly"

    @classmethod
    def by(cls, exit_code: int) -> "Death":
        """How a process ended, told by its exit code, which is negative for a signal."""
        if exit_code == 0:
            return cls.ORDERLY
        return cls.KILLED if exit_code == -signal.SIGKILL else cls.CRASHED


def blame(death: Death, batch: int) -> int:
    """The points for each image of a batch of that size which was under way at a death.

    Two crashes alone, or six kills, and an image is poison; a service that dies as a whole blames
    nobody, for nobody is left to count.
    """
    if death is Death.ORDERLY or batch == 0:
        return 0
    if batch > 1:
        return WITH_OTHERS
    return KILLED_ALONE if death is Death.KILLED else ALONE


def task_id(now: float, token: str) -> str:
    """`task_<unix second>_<hex>`; `token` is 128 random bits in hex: who has the id may read it."""
    return f"task_{int(now)}_{token}"


def message(task: TaskView) -> str:
    """The sentence that clients of the kept API read in a task's `message`."""
    total = len(task.images)
    captioned = sum(1 for image in task.images if image.status is Status.COMPLETED)
    match task.status:
        case Status.PENDING:
            return f"Task is waiting to be processed. {total} files queued."
        case Status.PROCESSING:
            return f"Task is being processed. {task.done}/{total} images done."
        case Status.COMPLETED:
            return (
                f"Processing complete. {captioned}/{total} images captioned successfully "
                f"in background. Total results: {total}."
            )
        case Status.FAILED:
            return (
                f"Processing failed for all {total} images in background. Total results: {total}."
            )
        case Status.CANCELLED:
            return f"Task was cancelled. {captioned}/{total} images captioned before that."

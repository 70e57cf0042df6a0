"""Tasks and their images: what a request asks for, states and their transitions, outcomes.

Pure functions and data: no I/O, no clock, no randomness.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from captiond.clients import Client, RequestOrigin
from captiond.confidence import Token, of_part
from captiond.errors import CaptiondError
from captiond.tags import Tag, TagFilter, TagOptions
from captiond.vocabulary import ScoredTag, steps_of_tags


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
    Status.COMPLETED: frozenset({Status.PENDING}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.CANCELLED: frozenset(),
}
TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


def states_before(transitions: Transitions, *new: Status) -> tuple[Status, ...]:
    """Return the states from which a task or an image may enter each of the states `new`."""
    return tuple(state for state in Status if transitions[state].issuperset(new))


# BLIP-base's image encoder takes about as long as so many steps of its text decoder for one beam,
# and the translation of its captions as long as so many for each caption.
ENCODER_STEPS, TRANSLATION_STEPS = 32, 6
ENGLISH = "en"  # the language that models write captions in


class Lane(StrEnum):
    """What waits for an image: a client on its connection, a task (bulk), or an import."""

    INTERACTIVE = "interactive"
    BULK = "bulk"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class SearchRules:
    """What a deployment rules out in every search for captions. The defaults rule out nothing.

    No caption has one of the `banned_words`, nor, with `ban_hallucinations`, a word that the kind
    of model is known to invent. A caption that has not ended after its `max_new_tokens` may take
    `finish_tokens` more.
    """

    ban_hallucinations: bool = False
    banned_words: tuple[str, ...] = ()
    finish_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """How captions are generated: greedy search with one beam, beam search with more.

    Every caption continues the `prompt`, which does not count as new tokens. Beam search returns
    the best `num_captions` captions. With `no_repeat_ngram_size`, so many tokens in a row occur
    once at most. `context` is what the client knows about the image. The tags of a `vocabulary` are
    scored against the image, those of the settings if it is empty; None stands for their threshold.
    With `rerank`, the best captions are ordered by how well they fit the image.
    """

    prompt: str = ""
    num_beams: int = 1
    max_new_tokens: int = 20
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0
    num_captions: int = 1
    no_repeat_ngram_size: int = 0
    context: str = ""
    rules: SearchRules = SearchRules()
    vocabulary: tuple[str, ...] = ()
    vocabulary_threshold: float | None = None
    rerank: bool = False

    @property
    def longest(self) -> int:
        """The number of new tokens at which a caption is cut."""
        return self.max_new_tokens + self.rules.finish_tokens

    @property
    def cost(self) -> float:
        """The estimated cost of a request for one image: of its caption and its vocabulary."""
        return self.cost_in(1)

    def cost_in(self, images: int) -> float:
        """Return the estimated cost of one of so many images, in steps of the text decoder for one
        beam.

        Few captions need `finish_tokens`. A vocabulary of the settings does not count: all images
        have its cost.
        """
        steps = ENCODER_STEPS + self.num_beams * self.max_new_tokens
        return steps + steps_of_tags(self.vocabulary, images)


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption. `score` is the mean log-probability of its new tokens and its end token.

    `confidence` is in [0, 1], as `captiond.confidence` explains it. It is None in a result that an
    earlier version has stored. `raw` is the text as the model has written it, if that differs.
    `tokens` are those that the model has chosen. A caption that has not `ended` was cut at its
    longest length. `notes` say what the model could not use of the request. `scored` are the tags
    of a vocabulary that the image has; only its best caption carries them. These four are not
    stored. `english` is the text before it was translated, or None if it was not.
    """

    text: str
    score: float
    confidence: float | None = None
    tokens: tuple[Token, ...] = ()
    raw: str | None = None
    ended: bool = True
    notes: tuple[str, ...] = ()
    scored: tuple[ScoredTag, ...] = ()
    english: str | None = None

    def tagged(self, tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
        """Return tags of this caption with their confidences."""
        if not self.tokens:
            return tags
        return tuple(
            tag.with_confidence(of_part(self.tokens, tag.start or 0, tag.end or 0)) for tag in tags
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What one request asks for, the same for all its images. The settings decide the rest.

    `language` is that of the tags, and `caption_language` that of the captions.
    """

    generation: Generation | None = None  # None: the settings' defaults
    no_cache: bool = False
    language: str | None = None
    caption_language: str | None = None
    tags: TagOptions = field(default_factory=TagOptions)
    origin: RequestOrigin | None = field(default=None, compare=False)  # it changes no result

    def cost(self, defaults: Generation, language: str = ENGLISH, images: int = 1) -> float:
        """Return the estimated cost of one of so many images, as `Generation.cost_in`.

        `defaults` and `language` apply if the request does not choose otherwise.
        """
        generation = self.generation or defaults
        translated = (self.caption_language or language) != ENGLISH
        steps = translated * TRANSLATION_STEPS * generation.num_captions
        return generation.cost_in(images) + steps


DEFAULT_OPTIONS = Options()
NO_CONTEXT = "context: the model cannot use it"  # a note of a result
NOBODY = Client("")  # stands for a client that is not known, as of tasks of earlier versions


@dataclass(frozen=True, slots=True)
class Captioned:
    """The outcome of an image that was captioned.

    `width` and `height` are those of the upright image, in pixels. `tag_details` are in order of
    salience; `tags` are their texts, sorted. `captions` holds all captions, best first, if the
    request asked for more than one. `raw_caption` is what the model has written, or None if that is
    the caption. `notes` say what of the request had no effect. `alt_text` is None for a blank
    caption, and in a result that an earlier version has stored.

    If the caption was translated, `caption_language` is its language and `caption_en` the English
    caption, to which the places of tags refer. `described` is then the translation of the caption
    without its opening, if it has one.
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
    confidence: float | None = None
    alt_text: str | None = None
    raw_caption: str | None = None
    notes: tuple[str, ...] = ()
    caption_en: str | None = None
    caption_language: str | None = None
    described: str | None = None

    def with_tags(self, tags: tuple[Tag, ...], wanted: TagFilter) -> "Captioned":
        """Return a copy that has those of `tags` that the filter `wanted` selects."""
        details = wanted.select(tags)
        return replace(self, tags=tuple(sorted(tag.tag for tag in details)), tag_details=details)


@dataclass(frozen=True, slots=True)
class Refused:
    """The outcome of an image without a caption: a sentence for people, a stable code for programs.

    `status` is the HTTP status that stands for it.
    """

    error: str
    code: str
    status: int = 400

    @classmethod
    def of(cls, error: CaptiondError) -> "Refused":
        return cls(error=str(error), code=error.code, status=error.status)


Outcome = Captioned | Refused

# Codes of failures that another attempt may cure, since the machine may have been the cause.
RETRYABLE = frozenset(
    {"poison_image", "image_too_slow", "too_much_memory", "out_of_memory", "spool_error"}
)


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
    """A task to be accepted.

    `spool` names the spool file of its images, or is None if all were refused. `key` is the
    client's Idempotency-Key, and `digest` a hash of the request that it came with. The finished
    task is posted to `callback_url`. `cost` is the estimated cost of one image; with the default
    options it is 1.
    """

    id: str
    spool: str | None
    images: tuple[NewImage, ...]
    created_at: float
    key: str | None = None
    digest: str | None = None
    options: Options = DEFAULT_OPTIONS
    callback_url: str | None = None
    client: Client = NOBODY
    cost: float = 1.0

    @property
    def is_open(self) -> bool:
        """Whether there is an image to caption; otherwise the task is finished at once."""
        return any(image.refused is None for image in self.images)


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """A finished task. `keeps_file`: its spool file is kept, as some images can be retried."""

    keeps_file: bool


@dataclass(frozen=True, slots=True)
class ImageView:
    """The current state of one image of a task. `outcome` is set once it is COMPLETED or FAILED."""

    filename: str
    sha256: str | None
    status: Status
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Numbers of a task's images: all, finished ones, and finished ones with and without a caption.

    Cancelled images are finished, and have no caption.
    """

    total: int
    done: int
    captioned: int
    failed: int


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task without its images. Times are Unix seconds.

    `revision` rises with each change that clients can see. Two states with equal revisions have
    equal results. `open_images` counts the images that wait or are being captioned.
    """

    id: str
    status: Status
    created_at: float
    started_at: float | None
    finished_at: float | None
    revision: int = 0
    open_images: int = 0


@dataclass(frozen=True, slots=True)
class TaskView:
    """The current state of a task. Times are Unix seconds; `images` are in upload order."""

    id: str
    status: Status
    created_at: float
    started_at: float | None
    finished_at: float | None
    images: tuple[ImageView, ...]

    @property
    def counts(self) -> TaskCounts:
        """Count the images by their states."""
        states = [image.status for image in self.images]
        return TaskCounts(
            total=len(states),
            done=sum(state.terminal for state in states),
            captioned=states.count(Status.COMPLETED),
            failed=states.count(Status.FAILED),
        )


def task_id(now: float, token: str) -> str:
    """Return an id. `token` is 128 random bits in hex: whoever knows the id may read the task."""
    return f"task_{int(now)}_{token}"


def message(status: Status, counts: TaskCounts) -> str:
    """Return the sentence that clients read in a task's `message`."""
    total, captioned = counts.total, counts.captioned
    match status:
        case Status.PENDING:
            return f"Task is waiting to be processed. {total} files queued."
        case Status.PROCESSING:
            return f"Task is being processed. {counts.done}/{total} images done."
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

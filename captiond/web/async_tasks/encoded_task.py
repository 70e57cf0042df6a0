"""The results of one task as JSON, each of which is encoded once.

The status of a task of 10,000 images is 7 MB of JSON. To build it takes about half a second, and a
running task changes with each batch. So each result is kept encoded, and a status is put together
of them while it is sent.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from captiond.jobs import RETRYABLE, ImageView, Refused, Status, TaskCounts, TaskState
from captiond.store.results import image_view
from captiond.store.snapshots import StoredImage, TaskSnapshot
from captiond.web.async_tasks.queue_place import QueuePlace
from captiond.web.schemas import encoded, image_result, task_fields

PIECE_BYTES = 64 * 1024
ROW_BYTES = 100  # memory that a result takes beside its bytes
# A thread that encodes holds the interpreter's lock for 5 ms at a time, and the event loop needs it
# again and again for a request. So the thread gives it away after a few results.
BURST = 32
PAUSE_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Page:
    """The images at the positions from `offset` to `offset + limit - 1`."""

    offset: int
    limit: int

    @property
    def end(self) -> int:
        """The position after the last image."""
        return self.offset + self.limit


@dataclass(frozen=True, slots=True)
class EncodedStatus:
    """The body of a status: `results` stand between `head` and `tail`, separated by commas."""

    etag: str
    head: bytes
    results: tuple[bytes, ...]
    tail: bytes

    @property
    def size(self) -> int:
        """The size of the body in bytes."""
        commas = max(0, len(self.results) - 1)
        return len(self.head) + sum(map(len, self.results)) + commas + len(self.tail)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces of PIECE_BYTES or a little more."""
        piece, separator = [self.head], b""
        length = len(self.head)
        for result in self.results:
            piece += (separator, result)
            length += len(separator) + len(result)
            separator = b","
            if length >= PIECE_BYTES:
                yield b"".join(piece)
                piece, length = [], 0
        yield b"".join([*piece, self.tail])


@dataclass(frozen=True, slots=True)
class EncodedTask:
    """The results of one task by position. None stands for an image without a result.

    The results from the position `first_open` on may still change.
    """

    state: TaskState
    counts: TaskCounts
    results: tuple[bytes | None, ...]
    first_open: int

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes."""
        return sum(ROW_BYTES + len(result or b"") for result in self.results)

    def status(self, place: QueuePlace | None = None) -> EncodedStatus:
        """Return the whole body. `place` is that of a task that waits."""
        finished = tuple(result for result in self.results if result is not None)
        return status_of(self.state, self.counts, finished, place=place)

    def page(self, page: Page, place: QueuePlace | None = None) -> EncodedStatus:
        """Return the body with the results of a part of the images."""
        some = self.results[page.offset : page.end]
        return page_status(self.state, self.counts, some, page, place)


def encoded_task(
    snapshot: TaskSnapshot, earlier: EncodedTask | None = None, *, pause: bool = False
) -> EncodedTask:
    """Encode a task. If it was encoded `earlier`, the snapshot has its images from `first_open` on.

    With `pause`, the interpreter's lock is given away between the results.
    """
    results = list(earlier.results[: earlier.first_open]) if earlier else []
    first_open = len(results)
    for number, row in enumerate(snapshot.images):
        image = image_of(row)
        if first_open == len(results) and is_final(image):
            first_open += 1
        results.append(encoded_result(image))
        if pause and number % BURST == BURST - 1:
            time.sleep(PAUSE_SECONDS)
    return EncodedTask(snapshot.state, snapshot.counts, tuple(results), first_open)


def encoded_page(
    snapshot: TaskSnapshot, page: Page, place: QueuePlace | None = None
) -> EncodedStatus:
    """Return the body with the results of a part of the images, which the snapshot has."""
    encodings = [encoded_result(image_of(row)) for row in snapshot.images]
    return page_status(snapshot.state, snapshot.counts, encodings, page, place)


def page_status(
    state: TaskState,
    counts: TaskCounts,
    encodings: Iterable[bytes | None],
    page: Page,
    place: QueuePlace | None = None,
) -> EncodedStatus:
    """Return the body for a part of a task, with its encoded results. None stands for no result."""
    results = tuple(result for result in encodings if result is not None)
    next_offset = page.end if page.end < counts.total else None
    return status_of(state, counts, results, page=page, next_offset=next_offset, place=place)


def status_of(
    state: TaskState,
    counts: TaskCounts,
    results: tuple[bytes, ...],
    *,
    page: Page | None = None,
    next_offset: int | None = None,
    place: QueuePlace | None = None,
) -> EncodedStatus:
    """Return the body for a task with these encoded results."""
    fields = task_fields(state, counts, [])
    if page is not None:
        fields["next_offset"] = next_offset
    if place is not None:
        fields["queue_position"] = place.position
        if place.eta_seconds is not None:
            fields["eta_seconds"] = place.eta_seconds
    etag = etag_of(state, page, place)
    if state.status is Status.PENDING:
        return EncodedStatus(etag, encoded(fields), (), b"")
    before, empty, after = encoded(fields).partition(b'"result":[')
    return EncodedStatus(etag, before + empty, results, after)


def etag_of(state: TaskState, page: Page | None = None, place: QueuePlace | None = None) -> str:
    """Return the entity tag of a task's status, or of a part of it.

    It begins with the task's revision. The place of a task that waits changes without a new one.
    """
    part = f"-{page.offset}-{page.limit}" if page else ""
    waits = f"-q{place.position}-{place.eta_seconds or 0}" if place else ""
    return f'"{state.revision}{part}{waits}"'


def image_of(row: StoredImage) -> ImageView:
    _, filename, sha256, status, result = row
    return image_view(filename, sha256, Status(status), result)


def encoded_result(image: ImageView) -> bytes | None:
    if image.outcome is None:
        return None
    return encoded(image_result(image.filename, image.sha256, image.outcome))


def is_final(image: ImageView) -> bool:
    """Return whether an image keeps its result for ever: it cannot be retried."""
    outcome = image.outcome
    if isinstance(outcome, Refused):
        return outcome.code not in RETRYABLE
    return outcome is not None or image.status is Status.CANCELLED

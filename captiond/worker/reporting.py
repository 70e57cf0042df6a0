"""What a model process reports to the supervisor: progress, results and measurements."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from captiond.deaths import Death
from captiond.errors import Withdrawn
from captiond.jobs import Caption, Captioned, Lane, Outcome
from captiond.messages import Begun, Finished, Measured, Timings, Work
from captiond.metrics import (
    BATCH_IMAGES,
    BATCH_SECONDS,
    BATCHES,
    CACHE_LOOKUPS,
    CAPTION_TOKENS,
    DEVICE_MEMORY,
    IMAGE_SECONDS,
    IMAGE_WAIT_SECONDS,
    IMAGES_FINISHED,
    MODEL_BUSY,
    MODEL_IDLE,
    RESTARTS,
    STAGE_SECONDS,
    TAGGING_FAILURES,
    TRANSLATIONS,
)
from captiond.processes.channel import Channel
from captiond.recording import Recorder
from captiond.worker.idle import IdleCause

if TYPE_CHECKING:
    from captiond.spans import FinishedWork, Traces

log = structlog.get_logger()


class Reporter:
    """Sends messages to the supervisor, and tracks the tickets that it still has to answer."""

    def __init__(self, channel: Channel, process: str, traces: "Traces | None" = None) -> None:
        """Report for a process; its name ends with a random part, which metrics leave out.

        `traces` is None if traces are off.
        """
        self._traces = traces
        self._channel = channel
        self._process = process.rpartition("-")[0] or process
        self._recorder = Recorder()
        self._tickets: set[str] = set()
        self._withdrawn: set[str] = set()
        self._tagging_failures = 0

    @property
    def recorder(self) -> Recorder:
        """What other parts of the process measure with."""
        return self._recorder

    # ------------------------------------------------------------ tickets

    def accepted(self, work: Work) -> None:
        """Note that this process has this work."""
        self._tickets.add(work.ticket)
        if self._traces is not None:
            self._traces.image_accepted(work)
        if work.since:
            self._recorder.observe(IMAGE_WAIT_SECONDS, time.monotonic() - work.since, work.lane)

    def withdraw(self, ticket: str) -> None:
        """Note that the result of this work is not wanted. Finished work is ignored."""
        if ticket in self._tickets:
            self._withdrawn.add(ticket)

    def is_withdrawn(self, ticket: str) -> bool:
        return ticket in self._withdrawn

    def captioning(self, tickets: Iterable[str]) -> None:
        """Report the work that is to blame if this process dies now."""
        self._channel.send(Begun(tuple(tickets)))

    def finished(self, *finished: Finished) -> None:
        """Report that some work is finished."""
        for each in finished:
            self.forget(each.ticket)
        self._channel.send_all(finished)

    def forget(self, ticket: str) -> None:
        """Note that a work is finished of which the supervisor does not know."""
        self._tickets.discard(ticket)
        self._withdrawn.discard(ticket)

    # ------------------------------------------------------------ measurements

    def batch_captioned(
        self, lane: Lane, images: int, seconds: float, idle: dict[IdleCause, float]
    ) -> None:
        """Record a batch: how long it took, and what the model waited for before it."""
        self._recorder.count(BATCHES, self._process, lane.value)
        self._recorder.observe(BATCH_IMAGES, images, self._process, lane.value)
        self._recorder.observe(BATCH_SECONDS, seconds, lane.value)
        self._recorder.count(MODEL_BUSY, self._process, amount=seconds)
        for cause, waited in idle.items():
            self._recorder.count(MODEL_IDLE, self._process, cause.value, amount=waited)
        log.debug(
            "batch",
            images=images,
            lane=lane.value,
            seconds=round(seconds, 6),
            idle={cause.value: round(waited, 6) for cause, waited in idle.items()},
        )

    def image_finished(self, work: Work, outcome: Outcome) -> None:
        """Count a finished image, and record how long it took since its acceptance."""
        label = outcome_label(outcome)
        self._recorder.count(IMAGES_FINISHED, work.lane, label)
        seconds = time.monotonic() - work.since
        if work.since and label != Withdrawn.code:
            self._recorder.observe(IMAGE_SECONDS, seconds, work.lane)
        log.debug(
            "image_finished",
            **work.ids,
            lane=work.lane.value,
            outcome=label,
            seconds=round(seconds, 3) if work.since else None,
        )

    def images_traced(self, finished: "Sequence[FinishedWork]", *, batch: bool) -> None:
        """Make the traces of finished images, which were in one batch or in none."""
        if self._traces is None:
            return
        if batch:
            self._traces.batch_finished(finished, self._process)
        else:
            self._traces.images_finished(finished)

    def captions_generated(self, captions: Iterable[Caption]) -> None:
        """Count the tokens of new captions."""
        tokens = sum(len(caption.tokens) for caption in captions)
        self._recorder.count(CAPTION_TOKENS, amount=tokens)

    def captions_translated(self, outcomes: Iterable[tuple[str, str]]) -> None:
        """Count images whose captions were to be translated, by language and outcome."""
        for language, outcome in outcomes:
            self._recorder.count(TRANSLATIONS, language, outcome)

    def cache_looked_up(self, *, hit: bool, used: bool) -> None:
        """Count what the cache knows of an image. It is not `used` for every image."""
        self._recorder.count(CACHE_LOOKUPS, "hit" if hit else "miss" if used else "unused")

    def decoder_died(self, death: Death) -> None:
        """Count an image decoder that is replaced."""
        self._recorder.count(RESTARTS, "decoder", death)

    def watch_device(self, memory: Mapping[str, Callable[[], float]]) -> None:
        """Report the memory of the device from now on, by its states."""
        for state, read in memory.items():
            self._recorder.watch(DEVICE_MEMORY, read, self._process, state)

    def stages_timed(self, timings: Timings) -> None:
        """Record where the time of an image went that was in a batch."""
        for stage in ("decode", "queue", "model", "tags"):
            self._recorder.observe(STAGE_SECONDS, getattr(timings, stage), stage)
        if timings.translation:
            self._recorder.observe(STAGE_SECONDS, timings.translation, "translation")

    def tagging_failed(self, total: int) -> None:
        """Count failures of the taggers; `total` is their number since this process started."""
        if total > self._tagging_failures:
            self._recorder.count(TAGGING_FAILURES, amount=total - self._tagging_failures)
            self._tagging_failures = total

    def send_measurements(self) -> None:
        """Send what was recorded since the last call, if there is anything."""
        measurements = self._recorder.take()
        if measurements:
            self._channel.send(Measured(measurements))


def outcome_label(outcome: Outcome) -> str:
    """Return the value of the label `outcome` of metrics."""
    if isinstance(outcome, Captioned):
        return "cached" if outcome.cached else "captioned"
    return outcome.code

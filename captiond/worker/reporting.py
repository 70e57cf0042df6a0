"""What a model process reports to the supervisor: progress, results and measurements."""

from collections.abc import Iterable

import structlog

from captiond.jobs import Captioned, Lane, Outcome
from captiond.messages import Begun, Finished, Measured, Timings
from captiond.metrics import (
    BATCH_IMAGES,
    BATCHES,
    IMAGES_FINISHED,
    MODEL_BUSY,
    MODEL_IDLE,
    STAGE_SECONDS,
    TAGGING_FAILURES,
    Recorder,
)
from captiond.processes.channel import Channel
from captiond.worker.idle import IdleCause

log = structlog.get_logger()


class Reporter:
    """Sends messages to the supervisor, and tracks the tickets that it still has to answer."""

    def __init__(self, channel: Channel, process: str) -> None:
        """Report for a process; its name ends with a random part, which metrics leave out."""
        self._channel = channel
        self._process = process.rpartition("-")[0] or process
        self._recorder = Recorder()
        self._tickets: set[str] = set()
        self._withdrawn: set[str] = set()
        self._tagging_failures = 0

    # ------------------------------------------------------------ tickets

    def accepted(self, ticket: str) -> None:
        """Note that the supervisor has sent this work."""
        self._tickets.add(ticket)

    def withdraw(self, ticket: str) -> None:
        """Note that the result of this work is not wanted. Finished work is ignored."""
        if ticket in self._tickets:
            self._withdrawn.add(ticket)

    def is_withdrawn(self, ticket: str) -> bool:
        return ticket in self._withdrawn

    def captioning(self, tickets: Iterable[str]) -> None:
        """Report the work that is to blame if this process dies now."""
        self._channel.send(Begun(tuple(tickets)))

    def finished(self, finished: Finished) -> None:
        """Report that a work is finished."""
        self._tickets.discard(finished.ticket)
        self._withdrawn.discard(finished.ticket)
        self._channel.send(finished)

    # ------------------------------------------------------------ measurements

    def batch_captioned(
        self, lane: Lane, images: int, seconds: float, idle: dict[IdleCause, float]
    ) -> None:
        """Record a batch: how long it took, and what the model waited for before it."""
        self._recorder.count(BATCHES, self._process, lane.value)
        self._recorder.observe(BATCH_IMAGES, images, self._process, lane.value)
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

    def image_finished(self, lane: Lane, outcome: Outcome) -> None:
        """Count a finished image."""
        self._recorder.count(IMAGES_FINISHED, lane.value, outcome_label(outcome))

    def stages_timed(self, timings: Timings) -> None:
        """Record where the time of an image went that was in a batch."""
        for stage in ("decode", "queue", "model", "tags"):
            self._recorder.observe(STAGE_SECONDS, getattr(timings, stage), stage)

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

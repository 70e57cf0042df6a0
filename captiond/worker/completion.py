"""Finishes images: stores the outcome, caches the caption, and notifies the supervisor."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from captiond.errors import StoreRefused, Withdrawn
from captiond.jobs import Captioned, FinishedTask, Lane, Outcome, Refused
from captiond.messages import Finished, Timings, Work
from captiond.store.claims import ImageOutcome, finish
from captiond.store.engine import Engine
from captiond.store.patience import until_stored
from captiond.store.together import Together
from captiond.worker.known import KnownCaptions
from captiond.worker.reporting import Reporter

log = structlog.get_logger()
NO_TIMINGS = Timings()
UNSTORABLE = Refused("the result cannot be stored; the log says why", "internal_error", 500)
WITHDRAWN = Refused.of(Withdrawn("nobody waits for this image any more"))


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """A finished image. `whole` is its caption with all tags, if it has one."""

    work: Work
    outcome: Outcome
    timings: Timings = NO_TIMINGS
    whole: Captioned | None = None

    @property
    def finished(self) -> tuple[Work, Outcome, Timings]:
        """What a trace of the image shows."""
        return self.work, self.outcome, self.timings


@dataclass(frozen=True, slots=True)
class Stored:
    """Whether the outcome of a bulk image was stored.

    `taken` is false if the claim was no longer valid. `task` is set if the image was the last one
    of its task.
    """

    taken: bool
    task: FinishedTask | None = None


def nobody(_: FinishedImage) -> None:
    """Take the outcome of an image of an import in a process that has none."""


class Completion:
    """Finishes images. Interactive clients do not wait for the disk.

    `imported` gets images of imports, whose outcomes are stored with those of their shard.
    """

    def __init__(
        self,
        known: KnownCaptions,
        engine: Engine,
        reporter: Reporter,
        imported: Callable[[FinishedImage], None] = nobody,
    ) -> None:
        self._known = known
        self._reporter = reporter
        self._imported = imported

        async def store(outcomes: list[ImageOutcome]) -> list[Stored]:
            return await store_outcomes(engine, outcomes)

        # Images that finish at the same time are stored in one transaction.
        self._outcomes = Together[ImageOutcome, Stored](store)

    async def finish(self, image: FinishedImage) -> None:
        """Finish an image that was not in a batch."""
        self._reporter.image_finished(image.work, image.outcome)
        self._reporter.images_traced([image.finished], batch=False)
        await self._deliver([image])

    async def finish_batch(self, images: Sequence[FinishedImage]) -> None:
        """Finish the images of a batch. Its measurements are sent before its results."""
        for image in images:
            self._reporter.image_finished(image.work, image.outcome)
            self._reporter.stages_timed(image.timings)
        self._reporter.images_traced([image.finished for image in images], batch=True)
        self._reporter.send_measurements()
        await self._deliver(images)

    async def _deliver(self, images: Sequence[FinishedImage]) -> None:
        for image in images:
            self._known.publish(image.work, image.whole)
        bulk = [image for image in images if image.work.lane is Lane.BULK]
        self._reporter.finished(
            *(
                report_of(image, Stored(taken=True))
                for image in images
                if image.work.lane is Lane.INTERACTIVE
            )
        )
        for image in images:
            if image.work.lane is Lane.IMPORT:
                self._reporter.forget(image.work.ticket)
                self._imported(image)
        await asyncio.gather(*(self._store(image) for image in bulk))
        new = [
            (image.work, image.whole)
            for image in images
            if image.whole is not None and not image.whole.cached
        ]
        if new:
            await self._known.store(new)
        for image in images:
            self._known.leave(image.work)

    async def _store(self, image: FinishedImage) -> None:
        """Store the outcome of a bulk image, then report it."""
        work, stored = image.work, Stored(taken=False)
        if image.outcome is not WITHDRAWN and work.image_id is not None:
            outcome = ImageOutcome(work.image_id, work.attempt, image.outcome)
            with structlog.contextvars.bound_contextvars(**work.ids):
                stored = await self._store_outcome(outcome)
        self._reporter.finished(report_of(image, stored))

    async def _store_outcome(self, outcome: ImageOutcome) -> Stored:
        """Store an outcome. If the database refuses it for good, the image fails instead.

        Otherwise the process would end, and the next one would meet the same refusal, for ever.
        """
        try:
            return await self._outcomes.ask(outcome)
        except StoreRefused:
            log.exception("outcome_refused", image_id=outcome.image_id)
            return await self._outcomes.ask(replace(outcome, outcome=UNSTORABLE))


def report_of(image: FinishedImage, stored: Stored) -> Finished:
    return Finished(
        image.work.ticket,
        image.outcome,
        image.timings,
        stored=stored.taken,
        task=stored.task,
    )


async def store_outcomes(engine: Engine, outcomes: Sequence[ImageOutcome]) -> list[Stored]:
    """Store outcomes in one transaction, however long the database refuses it."""
    taken = await until_stored(lambda: finish(engine, outcomes, now=time.time()))
    return [Stored(outcome.image_id in taken, taken.get(outcome.image_id)) for outcome in outcomes]

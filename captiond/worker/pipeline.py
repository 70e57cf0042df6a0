"""The pipeline of a model process: captions one batch after the other.

Three stages overlap: while the model captions one batch, the next one is decoded (`intake`), and
the last one is tagged and stored (`completion`). `batching` decides which images make a batch.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from structlog.contextvars import bound_contextvars

from captiond.errors import OutOfMemory
from captiond.jobs import Caption, Captioned, Refused
from captiond.logs import joined_ids
from captiond.messages import Timings
from captiond.tagging.vocabulary_tags import tag_of
from captiond.tags import Tag, merged
from captiond.translation.translations import Attempt, Untranslated, with_translation
from captiond.worker.completion import WITHDRAWN, Completion, FinishedImage
from captiond.worker.idle import IdleCause, IdleTime
from captiond.worker.intake import ModelInput, PreparedImage
from captiond.worker.recipe import Recipe
from captiond.worker.reporting import Reporter
from captiond.worker.runner import ModelRunner, TagRunner, TranslationRunner


@dataclass(frozen=True, slots=True)
class CaptionedBatch:
    """A batch that is captioned, and whose captions are being tagged."""

    images: list[PreparedImage]
    captions: list[tuple[Caption, ...]]  # best first; empty for an image that had no memory
    translations: list[Attempt]  # None for captions that stay in English
    tags: "asyncio.Future[list[tuple[Tag, ...]]]"  # of the best caption
    begun: float
    captioned: float
    ended: float


@dataclass(frozen=True)
class Runners:
    """The runners of the model, of the translators and of the taggers."""

    model: ModelRunner
    translation: TranslationRunner
    tags: TagRunner


class Pipeline:
    """Captions prepared images, tags the captions and finishes the images.

    It has no limit for waiting images. The supervisor sends a window and a reserve at most.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: ModelInput,
        runners: Runners,
        completion: Completion,
        reporter: Reporter,
    ) -> None:
        self._recipe = recipe
        self._batcher, self._decoders = source.batcher, source.decoders
        self._gathering = source.gathering
        self._changed = source.changed
        self._model, self._taggers = runners.model, runners.tags
        self._translators = runners.translation
        self._completion = completion
        self._reporter = reporter
        self._idle = IdleTime()
        # A death of the process is caused by one of these batches: with the model or the taggers.
        self._at_work: list[list[PreparedImage]] = []
        self._stop = False

    def stop(self) -> None:
        """End after the current batch. Images that are not in it are left undone."""
        self._stop = True
        self._changed.set()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Caption batch after batch until `stop`. Tasks of `group` finish the images."""
        while not self._stop:
            await self._wait_for_more()
            batch = self._without_withdrawn(self._batcher.take(), group)
            if batch:
                with bound_contextvars(**joined_ids(image.work.ids for image in batch)):
                    await self._run_batch(batch, group)
            elif not self._batcher and not self._stop:
                await self._wait_for_images()

    async def _wait_for_images(self) -> None:
        self._changed.clear()
        cause = IdleCause.DECODING if self._batcher.is_decoding else IdleCause.CLIENTS
        with self._idle.waiting(cause):
            await self._changed.wait()

    async def _wait_for_more(self) -> None:
        """Let more images join the next batch, for as long as it may wait."""
        while not self._stop and (seconds := self._batcher.wait_seconds(time.perf_counter())) > 0:
            self._changed.clear()
            try:
                with self._idle.waiting(IdleCause.MORE):
                    async with asyncio.timeout(seconds):
                        await self._changed.wait()
            except TimeoutError:
                return

    def _without_withdrawn(
        self, batch: list[PreparedImage], group: asyncio.TaskGroup
    ) -> list[PreparedImage]:
        """Return the batch without the images that are withdrawn, which are finished here."""
        wanted: list[PreparedImage] = []
        withdrawn: list[PreparedImage] = []
        for image in batch:
            is_withdrawn = self._reporter.is_withdrawn(image.work.ticket)
            (withdrawn if is_withdrawn else wanted).append(image)
        self._decoders.free([image.slot for image in withdrawn])
        for image in withdrawn:
            group.create_task(self._completion.finish(FinishedImage(image.work, WITHDRAWN)))
        return wanted

    async def _run_batch(self, batch: list[PreparedImage], group: asyncio.TaskGroup) -> None:
        """Caption a batch, start its tagging, and let a task of `group` finish it."""
        if batch[0].work.alone:  # in the whole process, so that a death has one possible cause
            await self._taggers.wait()
        self._at_work.append(batch)
        self._report_captioning()
        idle, begun = self._idle.batch_begins(), time.perf_counter()
        pixels = await self._gathering.gather([(i.slot, i.decoded.stored) for i in batch])
        self._decoders.free([image.slot for image in batch])
        generation = batch[0].generation
        vocabulary = self._recipe.vocabulary_of(generation)
        captions = await self._model.caption(pixels, generation, vocabulary)
        now = time.perf_counter()
        texts = [best[0].text if best else None for best in captions]
        tags = self._taggers.start(texts, [self._recipe.tag_language_of(i.work) for i in batch])
        translations = await self._translate(batch, captions)
        self._idle.batch_ended()
        ended = time.perf_counter() if any(translations) else now
        self._batcher.batch_ended(batch, begun, ended)
        self._reporter.captions_generated(chain.from_iterable(captions))
        self._reporter.batch_captioned(batch[0].work.lane, len(batch), ended - begun, idle)
        captioned = CaptionedBatch(batch, captions, translations, tags, begun, now, ended)
        group.create_task(self._finish_batch(captioned))

    async def _translate(
        self, batch: list[PreparedImage], captions: list[tuple[Caption, ...]]
    ) -> list[Attempt]:
        """Translate the captions of a batch while they are being tagged."""
        languages = [self._recipe.language_of(image.work) for image in batch]
        translations = await self._translators.translate(captions, languages)
        pairs = zip(languages, translations, strict=True)
        self._reporter.captions_translated(
            (language, each.outcome) for language, each in pairs if language and each
        )
        return translations

    def _report_captioning(self) -> None:
        # guard: tagger-death-blames-its-batch
        images = chain.from_iterable(self._at_work)
        self._reporter.captioning(image.work.ticket for image in images)

    async def _finish_batch(self, batch: CaptionedBatch) -> None:
        tags = await batch.tags
        tagged = time.perf_counter()
        self._at_work.remove(batch.images)
        # guard: finished-batch-does-not-hang
        # Results may wait for the disk, and no image is the cause of that.
        self._report_captioning()
        self._reporter.tagging_failed(self._taggers.failures)
        await self._completion.finish_batch(self._finished_images(batch, tags, tagged))

    def _finished_images(
        self, batch: CaptionedBatch, tags: Sequence[tuple[Tag, ...]], tagged: float
    ) -> list[FinishedImage]:
        each = zip(batch.images, batch.captions, batch.translations, tags, strict=True)
        return [
            self._finished_image(
                image,
                captions,
                translation,
                tags_of_best,
                Timings(
                    decode=image.ready - image.begun,
                    queue=batch.begun - image.ready,
                    model=batch.captioned - batch.begun,
                    translation=batch.ended - batch.captioned,
                    tags=tagged - batch.ended,
                ),
            )
            for image, captions, translation, tags_of_best in each
        ]

    def _finished_image(
        self,
        image: PreparedImage,
        captions: tuple[Caption, ...],
        translation: Attempt,
        tags: tuple[Tag, ...],
        timings: Timings,
    ) -> FinishedImage:
        if not captions:
            error = OutOfMemory("the device has no memory left for this image")
            return FinishedImage(image.work, Refused.of(error), timings)
        best = captions[0]
        whole = Captioned(
            best.text,
            (),
            self._recipe.model,
            image.decoded.width,
            image.decoded.height,
            tag_details=merged(best.tagged(tags), map(tag_of, best.scored)),
            score=best.score,
            captions=tuple(map(stored, captions)) if image.generation.num_captions > 1 else (),
            confidence=best.confidence,
            raw_caption=best.raw,
            notes=best.notes,
        )
        whole = with_translation(whole, translation)
        outcome = self._recipe.selected(whole, image.work)
        # guard: passing-failures-are-not-cached
        passing = isinstance(translation, Untranslated) and translation.passing
        return FinishedImage(image.work, outcome, timings, None if passing else whole)


def stored(caption: Caption) -> Caption:
    """Return a caption with what a result keeps of it."""
    return Caption(caption.text, caption.score, caption.confidence, raw=caption.raw)

"""Runs the captioner and the taggers, each in a thread of its own.

torch and spaCy must not be entered twice, but one may run beside the other.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial

import structlog

from captiond.captioners.devices import BatchPixels
from captiond.captioners.memory import CaptionBatch
from captiond.errors import OutOfMemory
from captiond.jobs import Caption, Generation
from captiond.tagging.tagger import Taggers
from captiond.tags import Tag
from captiond.translation.translations import Attempt, translated
from captiond.translation.translators import Translators
from captiond.vocabulary import Vocabulary

log = structlog.get_logger()


class ModelRunner:
    """Captions batches in `thread`."""

    def __init__(self, caption: CaptionBatch, thread: Executor) -> None:
        self._caption = caption
        self._thread = thread

    async def caption(
        self, pixels: BatchPixels, generation: Generation, vocabulary: Vocabulary | None = None
    ) -> list[tuple[Caption, ...]]:
        """Return the captions of a batch, uint8 [images, height, width, 3]; best first.

        A batch that does not fit into memory is halved. An image that does not fit alone has no
        caption.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._thread, self._caption, pixels, generation, vocabulary
            )
        # guard: split-batch
        except OutOfMemory as error:
            log.warning("out_of_memory", images=len(pixels), reason=str(error))
        if len(pixels) == 1:
            return [()]
        half = len(pixels) // 2
        first = await self.caption(pixels[:half], generation, vocabulary)
        return [*first, *await self.caption(pixels[half:], generation, vocabulary)]


class TranslationRunner:
    """Translates captions in the thread of the model, where torch runs."""

    def __init__(self, translators: Translators, thread: Executor) -> None:
        self._translators = translators
        self._thread = thread

    async def translate(
        self, captions: Sequence[tuple[Caption, ...]], languages: Sequence[str | None]
    ) -> list[Attempt]:
        """Translate the captions of a batch, each image's into its language; None is English."""
        if not any(languages):
            return [None] * len(captions)
        loop = asyncio.get_running_loop()
        # The context has the ids that log entries about these captions show.
        translate = self._translators.translate
        run = partial(copy_context().run, translated, captions, languages, translate)
        return await loop.run_in_executor(self._thread, run)


class TagRunner:
    """Tags captions in a thread, batch after batch."""

    def __init__(self, taggers: Taggers) -> None:
        self._taggers = taggers
        self._thread = ThreadPoolExecutor(1, "tags")

    @property
    def failures(self) -> int:
        """The number of captions that could not be tagged, since this process started."""
        return self._taggers.failures

    def start(
        self, texts: Sequence[str | None], languages: Sequence[str | None]
    ) -> "asyncio.Future[list[tuple[Tag, ...]]]":
        """Begin to tag captions, and return the future of their tags."""
        loop = asyncio.get_running_loop()
        # The context has the ids that log entries about these captions show.
        tag = partial(copy_context().run, self._taggers.tag, texts, languages)
        return loop.run_in_executor(self._thread, tag)

    async def wait(self) -> None:
        """Wait until everything that was started is tagged."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

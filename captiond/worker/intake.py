"""The intake of a model process: known captions are looked up, other images are decoded."""

import asyncio
import time
from collections.abc import Coroutine, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from captiond.captioners.protocol import Capabilities
from captiond.decoding.jobqueue import DecodedImage
from captiond.decoding.pool import DecodePool
from captiond.errors import ModelNotReady, OptionNotSupported
from captiond.jobs import Generation, Refused
from captiond.messages import Decoded, Work
from captiond.queues.lanes import ForWork
from captiond.worker.batching import Batcher
from captiond.worker.cached_english import CachedTranslator
from captiond.worker.completion import WITHDRAWN, Completion, FinishedImage
from captiond.worker.fetching import ImageFetcher
from captiond.worker.gathering import Gathering
from captiond.worker.known import KnownCaptions
from captiond.worker.recipe import Recipe
from captiond.worker.reporting import Reporter

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True, slots=True)
class PreparedImage(ForWork):
    """An image whose pixels are in a slot. Times are those of `time.perf_counter`."""

    work: Work
    generation: Generation
    cost: float  # the estimated cost of its captions
    slot: int
    decoded: Decoded
    begun: float
    ready: float

    @property
    def group(self) -> Hashable:
        """Images of one group may be in a batch together; work that is alone is its own group."""
        return self.work.ticket if self.work.alone else self.generation


@dataclass(frozen=True)
class ModelInput:
    """What a loaded model can do, its image decoders, and the images that are ready for it.

    `gathering` has the pixels of these images. `translator` translates captions that the cache has
    in English. `changed` is set whenever the next batch may have changed.
    """

    capabilities: Capabilities
    decoders: DecodePool
    gathering: Gathering
    batcher: Batcher[PreparedImage]
    translator: CachedTranslator
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class ImageIntake:
    """Prepares each image for a batch, or finishes it without the model.

    Images with known captions are finished while the model is still being loaded. The others wait
    until `open` is called, or are refused if they are `known_only`.
    """

    def __init__(
        self,
        recipe: Recipe,
        known: KnownCaptions,
        fetcher: ImageFetcher,
        completion: Completion,
        reporter: Reporter,
    ) -> None:
        self._recipe = recipe
        self._known = known
        self._fetcher = fetcher
        self._completion = completion
        self._reporter = reporter
        self._model: asyncio.Future[ModelInput] = asyncio.get_running_loop().create_future()

    def open(self, model: ModelInput) -> None:
        """Let images through to the model, which is loaded now."""
        self._model.set_result(model)

    def accept(self, work: Work, content: "Buffer | None" = None) -> Coroutine[Any, Any, None]:
        """Return the coroutine that prepares one image, which is in the spool unless it is given.

        From this call on the work can be withdrawn, also before the coroutine runs.
        """
        self._reporter.accepted(work)
        return self._prepare_logged(work, content)

    async def _prepare_logged(self, work: Work, content: "Buffer | None") -> None:
        """Prepare an image. Each log entry about it has its ids."""
        with structlog.contextvars.bound_contextvars(**work.ids):
            await self._prepare(work, content)

    async def _prepare(self, work: Work, content: "Buffer | None") -> None:
        known = await self._known.look_up(work)
        english = None if known else await self._known.look_up_english(work)
        hit, used = (known or english) is not None, self._recipe.is_cacheable(work)
        self._reporter.cache_looked_up(hit=hit, used=used)
        if known is not None:
            outcome = self._recipe.selected(known, work)
            await self._completion.finish(FinishedImage(work, outcome, whole=known))
            return
        if work.known_only and not self._model.done():
            refused = Refused.of(ModelNotReady(("the model is being loaded",)))
            await self._completion.finish(FinishedImage(work, refused))
            return
        model = await asyncio.shield(self._model)
        if english is not None:
            finished = await model.translator.finished(work, english)
            wanted = self._is_wanted(work)
            await self._completion.finish(finished if wanted else FinishedImage(work, WITHDRAWN))
            return
        generation = self._recipe.generation_of(work)
        option = model.capabilities.missing_for(generation)
        if option is not None:
            error = OptionNotSupported(f"the model does not support {option}")
            await self._completion.finish(FinishedImage(work, Refused.of(error)))
            return
        if content is not None:
            await self._decode_content(work, generation, model, content)
            return
        await self._decode(work, generation, model)

    async def _decode(self, work: Work, generation: Generation, model: ModelInput) -> None:
        async with self._fetcher.content(work.image, partial(self._is_wanted, work)) as content:
            if isinstance(content, Refused):
                await self._completion.finish(FinishedImage(work, content))
                return
            await self._decode_content(work, generation, model, content)

    async def _decode_content(
        self, work: Work, generation: Generation, model: ModelInput, content: "Buffer | None"
    ) -> None:
        begun = time.perf_counter()
        model.batcher.decoding_begun(work.lane)
        model.changed.set()
        try:
            result = await model.decoders.decode(work, partial(self._is_wanted, work), content)
        finally:
            model.batcher.decoding_ended(work.lane)
            model.changed.set()
        if not isinstance(result, DecodedImage):
            await self._completion.finish(FinishedImage(work, result or WITHDRAWN))
            return
        now = time.perf_counter()
        cost = self._recipe.cost_of(work)
        image = PreparedImage(work, generation, cost, result.slot, result.decoded, begun, now)
        model.batcher.put(image)

    def _is_wanted(self, work: Work) -> bool:
        return not self._reporter.is_withdrawn(work.ticket)

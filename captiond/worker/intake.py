"""The intake of a model process: known captions are looked up, other images are decoded."""

import asyncio
import time
from collections.abc import Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any

from captiond.captioners.protocol import Capabilities
from captiond.decoding.decode import Pixels
from captiond.decoding.pool import DecodePool
from captiond.decoding.slots import Slots
from captiond.errors import ModelNotReady, OptionNotSupported
from captiond.jobs import Generation, Lane, Refused
from captiond.messages import Decoded, Work
from captiond.worker.batching import Batcher
from captiond.worker.completion import Completion, FinishedImage
from captiond.worker.known import KnownCaptions
from captiond.worker.recipe import Recipe
from captiond.worker.reporting import Reporter


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image whose pixels are in a slot. Times are those of `time.perf_counter`."""

    work: Work
    generation: Generation
    slot: int
    decoded: Decoded
    begun: float
    ready: float

    @property
    def group(self) -> Hashable:
        """Images of one group may be in a batch together; work that is alone is its own group."""
        return self.work.ticket if self.work.alone else self.generation


class ImageDecoder:
    """Decodes images into slots, of which each lane has the same number.

    The slot that was freed last is used first, because its memory may still be in the caches.
    """

    def __init__(self, pool: DecodePool, slots: Slots) -> None:
        self._pool = pool
        self._slots = slots
        self._free: dict[Lane, asyncio.LifoQueue[int]] = {
            lane: asyncio.LifoQueue() for lane in Lane
        }
        for slot in range(slots.count):
            self._free[self._lane_of(slot)].put_nowait(slot)

    async def decode(self, work: Work) -> tuple[int, Decoded | Refused]:
        """Decode an image into the next free slot of its lane. Return the slot and the result."""
        slot = await self._free[work.lane].get()
        return slot, await self._pool.decode(work.lane, work.image, slot)

    def gather(self, slots: list[int], into: Pixels) -> Pixels:
        """Copy the pixels of some slots to the beginning of a buffer, and free the slots."""
        pixels = self._slots.gather(slots, into)
        self.free(slots)
        return pixels

    def free(self, slots: list[int]) -> None:
        for slot in slots:
            self._free[self._lane_of(slot)].put_nowait(slot)

    def _lane_of(self, slot: int) -> Lane:
        return Lane.BULK if 2 * slot < self._slots.count else Lane.INTERACTIVE


@dataclass(frozen=True)
class ModelInput:
    """What a loaded model can do, its image decoder, and the images that are ready for it.

    `changed` is set whenever the next batch may have changed.
    """

    capabilities: Capabilities
    decoder: ImageDecoder
    batcher: Batcher[PreparedImage]
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class ImageIntake:
    """Prepares each image for a batch, or finishes it without the model.

    Images with known captions are finished while the model is still being loaded. The others wait
    until `open` is called, or are refused if they are `known_only`.
    """

    def __init__(
        self, recipe: Recipe, known: KnownCaptions, completion: Completion, reporter: Reporter
    ) -> None:
        self._recipe = recipe
        self._known = known
        self._completion = completion
        self._reporter = reporter
        self._model: asyncio.Future[ModelInput] = asyncio.get_running_loop().create_future()

    def open(self, model: ModelInput) -> None:
        """Let images through to the model, which is loaded now."""
        self._model.set_result(model)

    def accept(self, work: Work) -> Coroutine[Any, Any, None]:
        """Return the coroutine that prepares one image.

        From this call on the work can be withdrawn, also before the coroutine runs.
        """
        self._reporter.accepted(work.ticket)
        return self._prepare(work)

    async def _prepare(self, work: Work) -> None:
        known = await self._known.look_up(work)
        if known is not None:
            outcome = self._recipe.selected(known, work)
            await self._completion.finish(FinishedImage(work, outcome, whole=known))
            return
        if work.known_only and not self._model.done():
            refused = Refused.of(ModelNotReady(("the model is being loaded",)))
            await self._completion.finish(FinishedImage(work, refused))
            return
        model = await asyncio.shield(self._model)
        generation = self._recipe.generation_of(work)
        option = model.capabilities.missing_for(generation)
        if option is not None:
            error = OptionNotSupported(f"the model does not support {option}")
            await self._completion.finish(FinishedImage(work, Refused.of(error)))
            return
        await self._decode(work, generation, model)

    async def _decode(self, work: Work, generation: Generation, model: ModelInput) -> None:
        begun = time.perf_counter()
        model.batcher.decoding_begun(work.lane)
        model.changed.set()
        try:
            slot, decoded = await model.decoder.decode(work)
        finally:
            model.batcher.decoding_ended(work.lane)
            model.changed.set()
        if isinstance(decoded, Refused):
            model.decoder.free([slot])
            await self._completion.finish(FinishedImage(work, decoded))
            return
        image = PreparedImage(work, generation, slot, decoded, begun, time.perf_counter())
        model.batcher.put(work.lane, image)

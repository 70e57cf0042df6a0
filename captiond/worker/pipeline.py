"""The way of an image through the model process: cache, decode, batch, caption, tags, result.

The stages overlap: while the model works on one batch, the next one is decoded and the last one
is tagged and written.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Hashable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import structlog

from captiond.captioners.memory import CaptionBatch
from captiond.decoding.decode import Pixels
from captiond.decoding.pool import DecodePool
from captiond.decoding.slots import Slots
from captiond.errors import OutOfMemory, StoreError, Withdrawn
from captiond.jobs import Caption, Captioned, FinishedTask, Generation, Lane, Outcome, Refused
from captiond.lanes import Lanes
from captiond.messages import Begun, Decoded, Finished, Timings, Work
from captiond.processes.channel import Channel
from captiond.store import captions as cache
from captiond.store import claims
from captiond.store.engine import Engine
from captiond.store.patience import until_stored
from captiond.store.together import Together
from captiond.tagging.tagger import Taggers
from captiond.tags import Tag, TagFilter
from captiond.worker.idle import Cause, Idle
from captiond.worker.underway import UnderWay

log = structlog.get_logger()
NO_TIMINGS = Timings()
# Of the time of the last batch, for which the next may wait: for images that are being decoded, and
# for any that may come.
DECODING_SHARE, LINGERING_SHARE = 0.05, 0.01
WITHDRAWN = Refused.of(Withdrawn("nobody waits for this image any more"))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes a caption: the model by its name, and the fingerprint of all that shapes it.

    `wanted` are the tags that a request gets which asks for none in particular, and `generation`
    is how its captions are searched for.
    """

    model: str
    fingerprint: str
    batch_size: int
    cached: bool
    wanted: TagFilter
    generation: Generation


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image in its slot, ready for the model. Times are of `time.perf_counter`."""

    work: Work
    generation: Generation
    slot: int
    decoded: Decoded
    begun: float
    ready: float

    @property
    def group(self) -> Hashable:
        """What it may be in a batch with; one that is to be alone is a group by itself."""
        return self.work.ticket if self.work.alone else self.generation


@dataclass(frozen=True, slots=True)
class Settled:
    """An image that has come to its end; `whole` is its caption with all tags, perhaps `new`."""

    work: Work
    outcome: Outcome
    timings: Timings = NO_TIMINGS
    whole: Captioned | None = None
    new: bool = False


class Pipeline:
    """Takes work, gives it back done. What it has in hand is bounded by who sends it."""

    def __init__(
        self,
        recipe: Recipe,
        caption: CaptionBatch,
        model_thread: Executor,
        taggers: Taggers,
        pool: DecodePool,
        slots: Slots,
        room: Pixels,
        engine: Engine,
        channel: Channel,
    ) -> None:
        self._recipe = recipe
        self._caption = caption
        self._taggers = taggers
        self._pool = pool
        self._slots = slots
        self._room = room  # for the pixels of the batch that is with the model
        self._free = list(range(slots.count))
        self._engine = engine
        self._look_up = Together[str, Captioned | None](lambda keys: cache.look_up(engine, keys))
        self._channel = channel
        self._ready: Lanes[Prepared] = Lanes()
        self._under_way = UnderWay[Captioned]()
        self._decoding: Counter[Lane] = Counter()
        self._idle = Idle()
        self._last_batch = 0.0, 0.0  # when it began and ended
        self._at_work: list[list[Prepared]] = []  # batches with the model or the taggers
        self._in_hand: set[str] = set()
        self._withdrawn: set[str] = set()
        self._wake = asyncio.Event()
        self._stop = False
        # One thread each: torch and spaCy must not be entered twice, and may run side by side.
        self._model_thread = model_thread
        self._tag_thread = ThreadPoolExecutor(1, "tags")

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Caption batch after batch until `stop`; tasks of `group` settle their results."""
        while not self._stop:
            await self._gather()
            batch = self._ready.take(self._recipe.batch_size)
            batch = self._without_withdrawn(batch, group)
            if batch:
                await self._run_batch(batch, group)
            elif not self._ready and not self._stop:
                await self._change()

    async def _change(self) -> None:
        """Wait until there is something to do, or something to be decoded."""
        self._wake.clear()
        with self._idle.waiting(Cause.DECODING if self._decoding.total() else Cause.CLIENTS):
            await self._wake.wait()

    async def _gather(self) -> None:
        """Let images that are being decoded join the next batch, if it has room for them and they
        are quick; and those, too, that clients send who have just been answered.

        Without it, what comes first goes alone and the others after it, again and again.
        """
        while (moment := self._moment()) > 0 and not self._stop:
            self._wake.clear()
            try:
                with self._idle.waiting(Cause.MORE):
                    async with asyncio.timeout(moment):
                        await self._wake.wait()
            except TimeoutError:
                return

    def _moment(self) -> float:
        """For how many seconds the next batch may wait for more images."""
        lane = Lane.INTERACTIVE if self._ready.interactive else Lane.BULK
        if not 0 < self._ready.waiting(lane) < self._recipe.batch_size:
            return 0
        share = DECODING_SHARE if self._decoding[lane] else LINGERING_SHARE
        begun, ended = self._last_batch
        return ended + share * (ended - begun) - time.perf_counter()

    def stop(self) -> None:
        """End after the batch that is under way; what is not in it is left undone."""
        self._stop = True
        self._wake.set()

    def withdraw(self, ticket: str) -> None:
        """Nobody wants this work any more: it is not captioned, unless it is being captioned."""
        if ticket in self._in_hand:
            self._withdrawn.add(ticket)

    def prepare(self, work: Work) -> Coroutine[Any, Any, None]:
        """Bring one image to where the next batch takes it, or to its end.

        From the call on it may be withdrawn, before anything of it has run.
        """
        self._in_hand.add(work.ticket)
        return self._prepare(work)

    async def _prepare(self, work: Work) -> None:
        known = await self._known(work)
        if known is not None:
            await self._settle([Settled(work, self._wanted(known, work), whole=known)])
            return
        begun, slot = time.perf_counter(), self._free.pop()
        self._decoding[work.lane] += 1
        self._wake.set()
        try:
            decoded = await self._pool.decode(work.lane, work.image, slot)
        finally:
            self._decoding[work.lane] -= 1
            self._wake.set()
        if isinstance(decoded, Refused):
            self._free.append(slot)
            await self._settle([Settled(work, decoded)])
            return
        ready = time.perf_counter()
        prepared = Prepared(work, self._generation(work), slot, decoded, begun, ready)
        self._ready.put(work.lane, prepared)

    async def _known(self, work: Work) -> Captioned | None:
        """The caption of the same bytes, captioned the same way before, or at this moment."""
        if not self._shares(work):
            return None
        key = self._key(work)
        # An interactive image does not wait for the same one in the bulk lane.
        shared = await self._under_way.join(f"{work.lane.value}\0{key}", work.ticket)
        if shared is not None:
            return replace(shared, cached=True)
        try:
            return await self._look_up.ask(key)
        except StoreError as error:
            log.warning("cache_unreadable", reason=str(error))
            return None

    def _shares(self, work: Work) -> bool:
        return self._recipe.cached and not work.options.no_cache and not work.alone

    def _key(self, work: Work) -> str:
        generation = sorted(asdict(self._generation(work)).items())
        tags = self._taggers.fingerprint(work.options.language)
        return cache.cache_key(
            work.image.sha256, f"{self._recipe.fingerprint}\0{generation}\0{tags}"
        )

    def _generation(self, work: Work) -> Generation:
        return work.options.generation or self._recipe.generation

    def _wanted(self, whole: Captioned, work: Work) -> Captioned:
        """A caption with those of its tags that this work's request wants."""
        wanted = self._recipe.wanted.narrowed(work.options.tags)
        return whole.with_tags(whole.tag_details, wanted)

    def _without_withdrawn(self, batch: list[Prepared], group: asyncio.TaskGroup) -> list[Prepared]:
        """The batch without what has been withdrawn, which is settled here."""
        unwanted = [image for image in batch if image.work.ticket in self._withdrawn]
        if unwanted:
            self._free += [image.slot for image in unwanted]
            group.create_task(self._settle([Settled(image.work, WITHDRAWN) for image in unwanted]))
        return [image for image in batch if image not in unwanted]

    async def _run_batch(self, batch: list[Prepared], group: asyncio.TaskGroup) -> None:
        pixels = self._slots.gather([image.slot for image in batch], self._room)
        self._free += [image.slot for image in batch]
        if batch[0].work.alone:  # in the whole process, so that its death tells
            await self._tagged()
        self._at_work.append(batch)
        self._tell_begun()
        idle, begun = self._idle.end(), time.perf_counter()
        captions = await self._captions(pixels, batch[0].generation)
        self._idle.begin()
        ended = time.perf_counter()
        self._last_batch = begun, ended
        log_batch(batch, ended - begun, idle)
        tags = self._tag(batch, captions)
        group.create_task(self._finish_batch(batch, captions, tags, begun, ended))

    def _tell_begun(self) -> None:
        """Tell what a death would be by."""
        begun = chain.from_iterable(self._at_work)
        self._channel.send(Begun(tuple(image.work.ticket for image in begun)))

    def _tag(
        self, batch: list[Prepared], captions: list[tuple[Caption, ...]]
    ) -> asyncio.Future[list[tuple[Tag, ...]]]:
        languages = [image.work.options.language for image in batch]
        texts = [found[0].text if found else None for found in captions]
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._tag_thread, self._taggers.tag, texts, languages)

    async def _tagged(self) -> None:
        """Wait for the taggers to have done what they were given: their thread takes it in turn."""
        await asyncio.get_running_loop().run_in_executor(self._tag_thread, lambda: None)

    async def _captions(self, pixels: Pixels, generation: Generation) -> list[tuple[Caption, ...]]:
        """The captions of a batch. One that does not fit into memory is halved; an image that does
        not fit by itself has none.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._model_thread, self._caption, pixels, generation)
        except OutOfMemory as error:
            log.warning("out_of_memory", images=len(pixels), reason=str(error))
        if len(pixels) == 1:
            return [()]
        half = len(pixels) // 2
        first = await self._captions(pixels[:half], generation)
        return [*first, *await self._captions(pixels[half:], generation)]

    async def _finish_batch(
        self,
        batch: list[Prepared],
        captions: list[tuple[Caption, ...]],
        tagging: asyncio.Future[list[tuple[Tag, ...]]],
        begun: float,
        ended: float,
    ) -> None:
        tags = await tagging
        tagged = time.perf_counter()
        self._at_work.remove(batch)
        self._tell_begun()  # results may wait for the disk: that is no batch's fault
        await self._settle(
            [
                self._settled(
                    image,
                    found,
                    tags_of_best,
                    Timings(
                        decode=image.ready - image.begun,
                        queue=begun - image.ready,
                        model=ended - begun,
                        tags=tagged - ended,
                    ),
                )
                for image, found, tags_of_best in zip(batch, captions, tags, strict=True)
            ]
        )

    def _settled(
        self,
        image: Prepared,
        captions: tuple[Caption, ...],
        tags: tuple[Tag, ...],
        timings: Timings,
    ) -> Settled:
        if not captions:
            error = OutOfMemory("the device has no memory left for this image")
            return Settled(image.work, Refused.of(error), timings)
        size = image.decoded.width, image.decoded.height
        best = captions[0]
        whole = Captioned(
            best.text,
            (),
            self._recipe.model,
            *size,
            tag_details=tags,
            score=best.score,
            captions=captions if len(captions) > 1 else (),
        )
        return Settled(image.work, self._wanted(whole, image.work), timings, whole, new=True)

    async def _settle(self, settled: list[Settled]) -> None:
        """Write what is to last, then report it done; interactive clients do not wait for disks."""
        for item in settled:
            self._under_way.lead(item.work.ticket, item.whole)
        bulk = [item for item in settled if item.work.lane is Lane.BULK]
        for item in settled:
            if item.work.lane is Lane.INTERACTIVE:
                self._report(Finished(item.work.ticket, item.outcome, item.timings))
        taken = await self._write([item for item in bulk if item.outcome is not WITHDRAWN])
        for item in bulk:
            image_id = item.work.image_id or 0
            ended = taken.get(image_id)
            stored = image_id in taken
            self._report(
                Finished(item.work.ticket, item.outcome, item.timings, stored=stored, task=ended)
            )
        await self._remember([item for item in settled if item.new and self._shares(item.work)])
        for item in settled:
            self._under_way.leave(item.work.ticket)

    def _report(self, finished: Finished) -> None:
        self._in_hand.discard(finished.ticket)
        self._withdrawn.discard(finished.ticket)
        self._channel.send(finished)

    async def _write(self, bulk: list[Settled]) -> dict[int, FinishedTask | None]:
        results = [
            claims.ImageOutcome(item.work.image_id, item.work.attempt, item.outcome)
            for item in bulk
            if item.work.image_id is not None
        ]
        if not results:
            return {}
        return await until_stored(lambda: claims.finish(self._engine, results, now=time.time()))

    async def _remember(self, settled: list[Settled]) -> None:
        captions = {self._key(item.work): item.whole for item in settled if item.whole is not None}
        try:
            await cache.remember(self._engine, captions, now=time.time())
        except StoreError as error:
            log.warning("cache_unwritable", reason=str(error))


def log_batch(batch: list[Prepared], seconds: float, idle: dict[Cause, float]) -> None:
    """What was with the model, for how long, and what that had waited for before."""
    log.debug(
        "batch",
        images=len(batch),
        lane=batch[0].work.lane.value,
        seconds=round(seconds, 6),
        idle={cause.value: round(waited, 6) for cause, waited in idle.items()},
    )

"""The model process: one device with its captioner, its image decoders and its taggers.

The process waits for `Go`, so that a standby process has its libraries imported already. It first
finds out which model it is going to load. From then on it finishes images whose captions are in
the cache (`CacheReady`). Once the model is loaded and warmed up, it captions (`Ready`) until it
receives `Drain` or its supervisor exits. An unexpected error ends the process; the supervisor
starts another one and requeues the work.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from captiond.captioners.families import invented_words, uses_context
from captiond.captioners.memory import device_memory, within_memory
from captiond.captioners.worded import worded
from captiond.decoding.pool import DecodePool, running_pool
from captiond.errors import CaptiondError, ModelBroken
from captiond.host.machine import total_bytes
from captiond.messages import Alive, CacheReady, Go, Imported, Ready, Unready
from captiond.processes.channel import Channel, ChannelClosed
from captiond.processes.start import ModelStart
from captiond.settings.config import Settings
from captiond.settings.option_settings import CaptionSettings
from captiond.spool import open_objects
from captiond.store.engine import Engine, make_engine
from captiond.tracing import start_tracing
from captiond.wording.tidying import WORDING_VERSION, TextRules
from captiond.worker.batching import Batcher
from captiond.worker.cached_english import CachedTranslator
from captiond.worker.completion import Completion
from captiond.worker.fetching import ImageFetcher
from captiond.worker.gathering import Gathering, make_gathering
from captiond.worker.intake import ImageIntake, ModelInput, PreparedImage
from captiond.worker.known import KnownCaptions
from captiond.worker.loading import Identity, Loaded, identify, load
from captiond.worker.pipeline import Pipeline, Runners
from captiond.worker.receiver import Receiver
from captiond.worker.recipe import Recipe, recipe_fingerprint
from captiond.worker.reporting import Reporter
from captiond.worker.runner import ModelRunner, TagRunner, TranslationRunner
from captiond.worker.shard_images import ShardImages, ShardOutcomes
from captiond.worker.shard_source import ShardSource

T = TypeVar("T")
log = structlog.get_logger()
ALIVE_SECONDS = 1.0
SWITCH_SECONDS = (
    0.0005  # of Python's 0.005: the model's thread must not wait for the taggers' so long
)
WINDOW_BATCHES = 3  # of each lane: one with the model, one decoded, one being decoded
FILES_AT_ONCE = 8  # of images of imports that are read
WHOLE_IMAGES_SHARE = 8  # of the memory, an eighth is for images that GPUs have not resized yet
LOADING_WINDOW = 64  # images at once, while the model is being loaded


def main(start: ModelStart) -> None:
    """Run the whole life of the process."""
    asyncio.run(run(start))


async def run(start: ModelStart) -> None:
    channel = await Channel.open(start.connection)
    if start.standby:
        channel.send(Imported())
    try:
        message = await channel.receive()
    except ChannelClosed:
        return
    assert isinstance(message, Go), message
    sys.setswitchinterval(SWITCH_SECONDS)
    traces = start_tracing(start.name, os.environ)
    reporter = Reporter(channel, start.name, traces)
    async with asyncio.TaskGroup() as group:
        alive = group.create_task(report_alive(channel, reporter))
        await serve(start, channel, reporter)
        alive.cancel()
    if traces is not None:
        await asyncio.to_thread(traces.close)


async def report_alive(channel: Channel, reporter: Reporter) -> None:
    """Report every second that the process does not hang, and what it has measured."""
    while True:
        channel.send(Alive())
        reporter.send_measurements()
        await asyncio.sleep(ALIVE_SECONDS)


async def serve(start: ModelStart, channel: Channel, reporter: Reporter) -> None:
    """Load, and caption until the end. If the model cannot be loaded, report why.

    torch runs in one thread only, from the loading of the weights on. OpenMP keeps a team of
    threads for every thread that calls it. With a second team, the threads of a team go to sleep as
    soon as they wait, and each operator must wake them up: this takes up to 15 % of the embedded
    model's time, and more on some machines (measured).
    """
    notes = start.settings.fingerprints
    os.environ.setdefault("TRITON_CACHE_DIR", str(start.settings.data.dir / "triton"))
    with ThreadPoolExecutor(1, "model") as thread:
        device = Device(start.device, thread)
        identity = await device.run(
            partial(identify, start.settings, start.device, notes, trial=True)
        )
        if isinstance(identity, Unready):
            channel.send(identity)
        else:
            await caption(start, identity, device, channel, reporter)
    reporter.send_measurements()
    await channel.flush()


@dataclass(frozen=True)
class Device:
    """A device by its name, and the thread in which all calls of torch for it run."""

    name: str
    thread: Executor

    async def run(self, load: Callable[[], T]) -> T | Unready:
        """Run a part of the loading in the thread. Return its result, or why it failed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.thread, load)
        except CaptiondError as error:
            return Unready(str(error), error.code)
        # guard: reason-of-failed-start
        except Exception as error:  # a driver or a lack of memory: another start may succeed
            log.exception("model_not_started", device=self.name)
            cause = f"{type(error).__name__}: {error}"
            reason = f"the model cannot be started on {self.name}: {cause}"
            return Unready(reason, ModelBroken.code)

    async def gathering(
        self, loaded: Loaded, slots: int, imports: int, settings: Settings
    ) -> Gathering:
        """Return how batches are gathered from so many slots."""
        make = partial(
            make_gathering, loaded.captioner, loaded.pixels, slots, imports, self.thread,
            memory=whole_images_bytes(settings),
        )  # fmt: skip
        return await asyncio.get_running_loop().run_in_executor(self.thread, make)


def whole_images_bytes(settings: Settings) -> int:
    """Return the memory for images that a GPU resizes: this process's part of that of all GPUs."""
    if not settings.images.gpu_resize:
        return 0
    return total_bytes() // WHOLE_IMAGES_SHARE // len(settings.model.devices)


async def caption(
    start: ModelStart, identity: Identity, device: Device, channel: Channel, reporter: Reporter
) -> None:
    """Finish known images while the model is being loaded, then caption until the end."""
    settings, outcomes = start.settings, ShardOutcomes()
    engine = make_engine(settings.database_address)
    recipe = make_recipe(settings, identity)
    known = KnownCaptions(recipe, engine)
    completion = Completion(known, engine, reporter, outcomes.finished)
    fetcher = ImageFetcher(open_objects(settings), reporter.recorder)
    intake = ImageIntake(recipe, known, fetcher, completion, reporter)
    receiver = Receiver(channel, intake, reporter)
    async with asyncio.TaskGroup() as group:
        receiving = group.create_task(receiver.run(group))
        if recipe.cached:
            channel.send(CacheReady(LOADING_WINDOW))
        loaded = await device.run(partial(load, identity, settings, trial=True))
        if isinstance(loaded, Unready):
            channel.send(loaded)
        else:
            window, reserve = WINDOW_BATCHES * loaded.info.batch_size, loaded.info.batch_size
            imports = window if claims_shards(start) else 0
            count = 2 * (window + reserve) + imports
            gathering = await device.gathering(loaded, count, imports, settings)
            reporter.watch_device(device_memory(loaded.captioner.device))
            async with running_pool(settings, gathering.slots, reporter.decoder_died) as pool:
                runners = make_runners(loaded, device, settings.captions.text_rules)
                translator = CachedTranslator(recipe, runners.translation, reporter)
                source = model_input(loaded, pool, gathering, translator)
                pipeline = Pipeline(recipe, source, runners, completion, reporter)
                intake.open(source)
                channel.send(Ready(loaded.info, window, reserve))
                async with shards_claimed(start, engine, intake, outcomes, source, reporter):
                    await run_until_stopped(pipeline, receiver.stopped, group)
        receiving.cancel()
        receiver.cancel_unfinished()
    await engine.dispose()


def claims_shards(start: ModelStart) -> bool:
    """Return whether the process works at imports: its node does, and it has a name for claims."""
    return bool(start.owner) and start.settings.node.imports


@asynccontextmanager
async def shards_claimed(
    start: ModelStart,
    engine: Engine,
    intake: ImageIntake,
    outcomes: ShardOutcomes,
    source: ModelInput,
    reporter: Reporter,
) -> AsyncIterator[None]:
    """Work at shards of imports while the block runs, if the process is to do so."""
    if not claims_shards(start):
        yield
        return
    with ThreadPoolExecutor(FILES_AT_ONCE, "references") as threads:
        images = ShardImages(
            intake,
            outcomes,
            reporter,
            threads,
            most_bytes=start.settings.limits.file_bytes,
            batch_size=source.batcher.batch_size,
        )
        shards = ShardSource(engine, start.owner, images, lambda: source.batcher.has_others)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(shards.run())
            yield
            running.cancel()


def model_input(
    loaded: Loaded, pool: DecodePool, gathering: Gathering, translator: CachedTranslator
) -> ModelInput:
    batcher = Batcher[PreparedImage](loaded.info.batch_size)
    return ModelInput(loaded.captioner.capabilities, pool, gathering, batcher, translator)


def make_runners(loaded: Loaded, device: Device, rules: TextRules) -> Runners:
    caption = worded(within_memory(loaded.captioner.caption), rules)
    model = ModelRunner(caption, device.thread)
    translation = TranslationRunner(loaded.translators, device.thread)
    return Runners(model, translation, TagRunner(loaded.taggers))


async def run_until_stopped(
    pipeline: Pipeline, stopped: asyncio.Event, group: asyncio.TaskGroup
) -> None:
    """Run a pipeline until the event is set. Tasks of `group` finish its images."""

    async def stop() -> None:
        await stopped.wait()
        pipeline.stop()

    stopping = group.create_task(stop())
    await pipeline.run(group)
    stopping.cancel()


def make_recipe(settings: Settings, identity: Identity) -> Recipe:
    parts = [identity.fingerprint, identity.placement.precision]
    if settings.images.jpeg_draft:
        parts.append("jpeg_draft")
    if settings.images.color != "convert":
        parts.append(f"color={settings.images.color}")
    parts += wording_parts(settings.captions, identity.files.folder)
    if identity.matcher_fingerprint:
        parts.append(identity.matcher_fingerprint)
    return Recipe(
        model=identity.files.name,
        fingerprint=recipe_fingerprint(*parts),
        tagger_fingerprint=identity.taggers.fingerprint,
        defaults=settings.default_generation,
        wanted=settings.tags.filter,
        cached=settings.cache.enabled,
        hedge_below=settings.captions.hedge_below,
        uses_context=uses_context(identity.files.folder),
        vocabulary=identity.vocabulary,
        language=settings.translation.language,
        translator_fingerprint=identity.translators.fingerprint,
        dictionaries=identity.dictionaries,
    )


def wording_parts(captions: CaptionSettings, folder: Path) -> Iterator[str]:
    """Yield what stands for the wording of captions, and for the words that a model may not write.

    Rules that are off are left out, so that captions that are stored already keep their keys.
    """
    if captions.text_rules != TextRules():
        yield f"{captions.text_rules!r} {WORDING_VERSION}"
    if captions.ban_hallucinations:
        yield repr(invented_words(folder))

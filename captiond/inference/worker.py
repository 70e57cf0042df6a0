"""The model process: one device, one model, its decoders and its tagger.

It loads and warms up, says that it is ready, and works off what it is sent until it is told to
drain or its supervisor is gone. An error that nobody expected ends it; the supervisor starts
another, and what was in hand is done again.
"""

import asyncio
import hashlib
import os

import structlog
import torch

from captiond.channel import Channel, ChannelClosed
from captiond.config import Settings
from captiond.errors import CaptiondError
from captiond.inference.blip import Blip, pick_batch_size, pick_device, pick_dtype
from captiond.inference.models import ModelFiles, find_model, fingerprint
from captiond.inference.pipeline import Pipeline, Recipe
from captiond.inference.pool import running_pool
from captiond.inference.slots import Slots
from captiond.messages import Drain, ModelInfo, Ready, Unready, Work
from captiond.processes import ModelStart
from captiond.store.engine import make_engine
from captiond.tagging.pipelines import fingerprint as tagger_fingerprint
from captiond.tagging.tagger import Tagger

log = structlog.get_logger()
BATCHES_IN_HAND = 3  # of each lane: one with the model, one decoded, one being decoded


def main(start: ModelStart) -> None:
    """The process's whole life."""
    asyncio.run(run(start))


async def run(start: ModelStart) -> None:
    channel = await Channel.open(start.connection)
    try:
        blip, tagger, info = await asyncio.to_thread(load, start)
    except CaptiondError as error:
        channel.send(Unready(str(error), error.code))
        await channel.flush()
        return
    settings = start.settings
    window = BATCHES_IN_HAND * info.batch_size
    slots = Slots(2 * window, blip.geometry)
    engine = make_engine(settings.database)
    async with running_pool(settings, slots) as pool:
        recipe = make_recipe(settings, info)
        pipeline = Pipeline(recipe, blip.caption, tagger.tags, pool, slots, engine, channel)
        channel.send(Ready(info, window))
        await work(pipeline, channel)
    await channel.flush()
    await engine.dispose()


async def work(pipeline: Pipeline, channel: Channel) -> None:
    """Feed the pipeline from the channel; return once it is drained."""
    async with asyncio.TaskGroup() as group:
        preparing: set[asyncio.Task[None]] = set()
        running = group.create_task(pipeline.run(group))
        receiving = group.create_task(receive(pipeline, channel, group, preparing))
        await running
        receiving.cancel()
        for task in preparing:
            task.cancel()


async def receive(
    pipeline: Pipeline,
    channel: Channel,
    group: asyncio.TaskGroup,
    preparing: set[asyncio.Task[None]],
) -> None:
    try:
        while True:
            match await channel.receive():
                case Work() as item:
                    task = group.create_task(pipeline.prepare(item))
                    preparing.add(task)
                    task.add_done_callback(preparing.discard)
                case Drain():
                    pipeline.stop()
                case message:
                    raise TypeError(f"a model process takes no {type(message).__name__}")
    except ChannelClosed:
        pipeline.stop()


def load(start: ModelStart) -> tuple[Blip, Tagger, ModelInfo]:
    """Load model and tagger and run both once. Blocking.

    Raises:
        ModelMissing, ModelBroken: captions or tags cannot be made here.
    """
    settings = start.settings
    tagger = Tagger.load(settings.tags.pipeline)
    files = find_model(settings)
    device = pick_device(start.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(settings.model.threads or len(os.sched_getaffinity(0)))
    dtype = pick_dtype(settings.model.precision, device)
    blip = Blip.load(files.folder, device, dtype, settings.generation)
    warm_up(blip, tagger)
    return blip, tagger, describe(settings, files, blip)


def warm_up(blip: Blip, tagger: Tagger) -> None:
    """The first run of anything pays for what later runs find done."""
    blank = Slots(1, blip.geometry).gather([0])
    tagger.tags(blip.caption(blank))


def describe(settings: Settings, files: ModelFiles, blip: Blip) -> ModelInfo:
    return ModelInfo(
        name=files.name,
        requested=settings.model.name,
        fingerprint=fingerprint(files.folder),
        device=str(blip.device),
        precision=str(blip.dtype).removeprefix("torch."),
        batch_size=pick_batch_size(settings.model, blip.device),
    )


def make_recipe(settings: Settings, info: ModelInfo) -> Recipe:
    parts = (
        info.fingerprint,
        info.precision,
        settings.generation.model_dump_json(),
        tagger_fingerprint(settings.tags.pipeline),
    )
    return Recipe(
        model=info.name,
        fingerprint=hashlib.sha256("\0".join(parts).encode()).hexdigest(),
        batch_size=info.batch_size,
        cached=settings.cache.enabled,
    )

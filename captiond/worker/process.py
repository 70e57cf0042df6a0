"""The model process: one device, one model, its decoders and its taggers.

It stands by until it is told to go, loads and warms up, says that it is ready, and works off what
it is sent until it is told to drain or its supervisor is gone. An error that nobody expected ends
it; the supervisor starts another, and what was in hand is done again.
"""

import asyncio
import hashlib
from concurrent.futures import Executor, ThreadPoolExecutor

import structlog

from captiond.captioners.memory import within_memory
from captiond.config import Settings
from captiond.decoding.pool import running_pool
from captiond.decoding.slots import Slots
from captiond.errors import CaptiondError, ModelBroken
from captiond.messages import Alive, Drain, Go, Ready, Unready, Withdraw, Work
from captiond.processes.channel import Channel, ChannelClosed
from captiond.processes.start import ModelStart
from captiond.store.engine import make_engine
from captiond.worker.loading import Loaded, identify, load
from captiond.worker.pipeline import Pipeline, Recipe

log = structlog.get_logger()
BEAT_SECONDS = 1.0
BATCHES_IN_HAND = 3  # of each lane: one with the model, one decoded, one being decoded


def main(start: ModelStart) -> None:
    """The process's whole life."""
    asyncio.run(run(start))


async def run(start: ModelStart) -> None:
    channel = await Channel.open(start.connection)
    try:
        message = await channel.receive()
    except ChannelClosed:
        return
    assert isinstance(message, Go), message
    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat(channel))
        await serve(start, channel)
        beating.cancel()


async def beat(channel: Channel) -> None:
    """Say every second that the process is not hung."""
    while True:
        channel.send(Alive())
        await asyncio.sleep(BEAT_SECONDS)


async def serve(start: ModelStart, channel: Channel) -> None:
    """Load, caption and end.

    All that torch does, it does in one thread, from the loading of the weights on. OpenMP keeps
    a team of threads for every thread that calls it; with a second team about, those that wait for
    work go to sleep at once and not after a while, and each operator wakes them up again: measured,
    up to 15 % of the embedded model's time, and more on some machines.
    """
    with ThreadPoolExecutor(1, "model") as thread:
        await serve_with(thread, start, channel)


async def serve_with(thread: Executor, start: ModelStart, channel: Channel) -> None:
    def loading() -> Loaded:
        return load(identify(start.settings, start.device), start.settings, trial=True)

    try:
        loaded = await asyncio.get_running_loop().run_in_executor(thread, loading)
    except CaptiondError as error:
        await refuse(channel, str(error), error.code)
        return
    except Exception as error:  # a driver, or memory that somebody else has: say so, try again
        log.exception("model_not_started", device=start.device)
        reason = f"the model cannot be started on {start.device}: {type(error).__name__}: {error}"
        await refuse(channel, reason, ModelBroken.code)
        return
    settings, captioner, taggers = start.settings, loaded.captioner, loaded.taggers
    window = BATCHES_IN_HAND * loaded.info.batch_size
    slots = Slots(2 * window, captioner.geometry)
    engine = make_engine(settings.database)
    async with running_pool(settings, slots) as pool:
        recipe = make_recipe(settings, loaded)
        caption = within_memory(captioner.caption)
        pipeline = Pipeline(
            recipe, caption, thread, taggers, pool, slots, loaded.pixels, engine, channel
        )
        channel.send(Ready(loaded.info, window))
        await work(pipeline, channel)
    await channel.flush()
    await engine.dispose()


async def refuse(channel: Channel, reason: str, code: str) -> None:
    channel.send(Unready(reason, code))
    await channel.flush()


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
                case Withdraw(ticket):
                    pipeline.withdraw(ticket)
                case Drain():
                    pipeline.stop()
                case message:
                    raise TypeError(f"a model process takes no {type(message).__name__}")
    except ChannelClosed:
        pipeline.stop()


def make_recipe(settings: Settings, loaded: Loaded) -> Recipe:
    info = loaded.info
    parts = [info.fingerprint, info.precision]
    if settings.images.jpeg_draft:
        parts.append("jpeg_draft")
    return Recipe(
        model=info.name,
        fingerprint=hashlib.sha256("\0".join(parts).encode()).hexdigest(),
        batch_size=info.batch_size,
        cached=settings.cache.enabled,
        wanted=settings.tags.filter,
        generation=settings.generation.defaults,
    )

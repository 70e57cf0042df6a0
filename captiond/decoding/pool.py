"""The pool of decoder processes: a file in, a filled slot out, whatever the file does to them."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import structlog

from captiond.backoff import backoff
from captiond.config import Settings
from captiond.decoding.decoder import DecoderStart
from captiond.decoding.slots import Slots
from captiond.errors import ImageTooSlow, PoisonImage
from captiond.jobs import BLAME_LIMIT, Death, Lane, Refused, SpooledImage, blame
from captiond.lanes import Lanes
from captiond.messages import Decode, Decoded, Message
from captiond.processes.channel import ChannelClosed
from captiond.processes.children import ChildProcess

log = structlog.get_logger()
DECODER = "captiond.decoding.decoder"
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0  # seconds, after starts that failed
STUCK_FACTOR = 4  # a decoder may take so many times its processor seconds by the clock


@dataclass(slots=True)
class Job:
    """One file to decode. A decoder has one in hand at most, so a death names its image."""

    lane: Lane
    request: Decode
    answer: asyncio.Future[Decoded | Refused]
    blame: int = 0

    @property
    def group(self) -> None:
        """They are taken one by one."""


class DecodePool:
    """Made by `running_pool`, which owns its processes."""

    def __init__(self, settings: Settings, slots: Slots) -> None:
        self._settings = settings
        self._slots = slots
        self._jobs: Lanes[Job] = Lanes()
        self._waiting = asyncio.Semaphore(0)  # counts the jobs

    async def decode(self, lane: Lane, image: SpooledImage, slot: int) -> Decoded | Refused:
        """Decode an image into a slot; interactive ones go ahead of bulk ones."""
        answer: asyncio.Future[Decoded | Refused] = asyncio.get_running_loop().create_future()
        self._put(Job(lane, Decode(image, slot), answer))
        return await answer

    async def keep_decoder(self) -> None:
        """Run one decoder after the other, each for as long as it lives; until cancelled."""
        failures = 0
        while True:
            try:
                decoder = await self._spawn()
            except OSError as error:  # no memory, no descriptor: that may mend itself
                log.error("decoder_not_started", reason=str(error))
                failures += 1
                await asyncio.sleep(backoff(failures, first=FIRST_DELAY, longest=LONGEST_DELAY))
                continue
            failures = 0
            try:
                await self._feed(decoder)
            finally:
                decoder.kill()
                await decoder.exited()
                decoder.close()

    async def _feed(self, decoder: ChildProcess) -> None:
        """Give a decoder one job after the other, until it dies or must be killed."""
        while True:
            await self._waiting.acquire()
            if not decoder.process.is_alive():  # killed while it was idle: nobody's fault
                self._waiting.release()
                return
            (job,) = self._jobs.take(1)
            decoder.channel.send(job.request)
            try:
                async with asyncio.timeout(STUCK_FACTOR * self._settings.images.decode_seconds):
                    reply = await decoder.channel.receive()
            except ChannelClosed:
                code = await decoder.exited()
                self._lost(job, Death.by(code), code)
                return
            except TimeoutError:
                death = Death.KILLED if decoder.is_stopped() else Death.HUNG
                decoder.kill()
                self._lost(job, death, await decoder.exited())
                return
            assert isinstance(reply, Decoded | Refused)
            settle(job, reply)

    def _put(self, job: Job) -> None:
        self._jobs.put(job.lane, job)
        self._waiting.release()

    def _lost(self, job: Job, death: Death, exit_code: int) -> None:
        """A decoder ended with this job in hand: try it again until the image is to blame."""
        job.blame += max(1, blame(death, batch=1))
        log.warning("decoder_died", exit_code=exit_code, death=death.value, blame=job.blame)
        if exit_code == -signal.SIGPROF:
            seconds = self._settings.images.decode_seconds
            settle(job, Refused.of(ImageTooSlow(f"decoding takes more than {seconds:g} seconds")))
        elif job.blame >= BLAME_LIMIT:
            settle(job, Refused.of(PoisonImage("decoding this image ends the process that tries")))
        else:
            self._put(job)

    async def _spawn(self) -> ChildProcess:
        return await ChildProcess.spawn(f"decoder-{secrets.token_hex(4)}", DECODER, self._start)

    def _start(self, name: str, connection: "Connection[Message, Message]") -> DecoderStart:
        return DecoderStart(name, os.getpid(), self._settings, connection, self._slots)


def settle(job: Job, reply: Decoded | Refused) -> None:
    if not job.answer.done():
        job.answer.set_result(reply)


@asynccontextmanager
async def running_pool(settings: Settings, slots: Slots) -> AsyncIterator[DecodePool]:
    """A pool with its processes running, which end with the block."""
    pool = DecodePool(settings, slots)
    async with asyncio.TaskGroup() as group:
        decoders = [
            group.create_task(pool.keep_decoder())
            for _ in range(decoder_count(settings.images.decoders))
        ]
        yield pool
        for decoder in decoders:
            decoder.cancel()


def decoder_count(setting: int) -> int:
    """The setting, or one for each core but one, which the model process itself keeps busy."""
    return setting or max(1, len(os.sched_getaffinity(0)) - 1)

"""The pool of image decoders. These are processes, because an image may crash or block one."""

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
from captiond.decoding.replies import MAX_REPLY_BYTES, MalformedReply, decode_reply
from captiond.decoding.slots import Slots
from captiond.errors import ImageTooSlow, PoisonImage
from captiond.jobs import BLAME_LIMIT, Death, Lane, Refused, SpooledImage, blame
from captiond.lanes import Lanes
from captiond.messages import Decode, Decoded, Message
from captiond.processes.channel import ChannelClosed, MessageTooLarge
from captiond.processes.children import ChildProcess

log = structlog.get_logger()
DECODER = "captiond.decoding.decoder"
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0  # seconds, after failed starts
EXIT_SECONDS = 5.0  # between the end of a decoder's messages and its exit
STUCK_FACTOR = 4  # a decoder may take this many times its processor seconds of real time


@dataclass(slots=True)
class DecodeJob:
    """One image to decode. A decoder has one at a time, so its death has one possible cause."""

    lane: Lane
    request: Decode
    answer: asyncio.Future[Decoded | Refused]
    blame: int = 0

    @property
    def group(self) -> None:
        """Jobs are taken one by one, so all are of one group."""


class DecodePool:
    """Sends images to decode processes. `running_pool` makes a pool and owns its processes."""

    def __init__(self, settings: Settings, slots: Slots) -> None:
        self._settings = settings
        self._slots = slots
        self._jobs: Lanes[DecodeJob] = Lanes()
        self._waiting = asyncio.Semaphore(0)  # the number of jobs

    async def decode(self, lane: Lane, image: SpooledImage, slot: int) -> Decoded | Refused:
        """Decode an image into a slot. Interactive images have precedence over bulk images."""
        answer: asyncio.Future[Decoded | Refused] = asyncio.get_running_loop().create_future()
        self._put(DecodeJob(lane, Decode(image, slot), answer))
        return await answer

    async def keep_decoder(self) -> None:
        """Run a decoder, and start another one whenever it ends, until cancelled."""
        failures = 0
        while True:
            try:
                decoder = await self._spawn()
            except OSError as error:  # a lack of memory or of descriptors may pass
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
        """Give a decoder one job after the other, until it ends or is killed."""
        while True:
            await self._waiting.acquire()
            # guard: idle-decoder-blames-nothing
            if not decoder.process.is_alive():  # it died while idle, so no image is the cause
                self._waiting.release()
                return
            (job,) = self._jobs.take(1)
            decoder.channel.send(job.request)
            try:
                async with asyncio.timeout(STUCK_FACTOR * self._settings.images.decode_seconds):
                    body = await decoder.channel.receive_bytes(MAX_REPLY_BYTES)
                    reply = decode_reply(body)
            except ChannelClosed:
                self._lost(job, *await death_of(decoder))
                return
            except (MalformedReply, MessageTooLarge) as error:
                log.error("decoder_reply_malformed", reason=str(error))
                decoder.kill()
                self._lost(job, Death.CRASHED, await decoder.exited())
                return
            except TimeoutError:
                death = Death.KILLED if decoder.is_stopped() else Death.HUNG
                decoder.kill()
                self._lost(job, death, await decoder.exited())
                return
            resolve(job, reply)

    def _put(self, job: DecodeJob) -> None:
        self._jobs.put(job.lane, job)
        self._waiting.release()

    def _lost(self, job: DecodeJob, death: Death, exit_code: int) -> None:
        """Try a job again whose decoder ended, until its image counts as the cause."""
        # guard: decoder-death-blames-its-image
        job.blame += max(1, blame(death, batch=1))
        log.warning("decoder_died", exit_code=exit_code, death=death.value, blame=job.blame)
        if exit_code == -signal.SIGPROF:
            seconds = self._settings.images.decode_seconds
            resolve(job, Refused.of(ImageTooSlow(f"decoding takes more than {seconds:g} seconds")))
        elif job.blame >= BLAME_LIMIT:
            resolve(
                job, Refused.of(PoisonImage("decoding this image ends the process that decodes it"))
            )
        else:
            self._put(job)

    async def _spawn(self) -> ChildProcess:
        return await ChildProcess.spawn(f"decoder-{secrets.token_hex(4)}", DECODER, self._start)

    def _start(self, name: str, connection: "Connection[Message, Message]") -> DecoderStart:
        return DecoderStart(name, os.getpid(), self._settings, connection, self._slots)


async def death_of(decoder: ChildProcess) -> tuple[Death, int]:
    """Return how a decoder ends that has closed its channel, and its exit code.

    A decoder that was taken over may close its channel and go on, so it is killed after a while.
    """
    try:
        async with asyncio.timeout(EXIT_SECONDS):
            code = await decoder.exited()
            return Death.by(code), code
    except TimeoutError:
        decoder.kill()
        return Death.HUNG, await decoder.exited()


def resolve(job: DecodeJob, reply: Decoded | Refused) -> None:
    if not job.answer.done():
        job.answer.set_result(reply)


@asynccontextmanager
async def running_pool(settings: Settings, slots: Slots) -> AsyncIterator[DecodePool]:
    """Run a pool; its processes end with the block."""
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
    """Return the setting, or the number of cores without the one that the model process uses."""
    return setting or max(1, len(os.sched_getaffinity(0)) - 1)

"""The pool of image decoders. These are processes, because an image may crash or block one."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import structlog

from captiond.backoff import backoff
from captiond.deaths import BLAME_LIMIT, Death, blame
from captiond.decoding.budget import MemoryBudget, budget_bytes, standing_bytes
from captiond.decoding.childoutput import DecoderLog, PrintedOutput
from captiond.decoding.decoder import DecoderStart
from captiond.decoding.exchange import DecoderLimits, exchange
from captiond.decoding.handover import Handover
from captiond.decoding.jobqueue import DecodedImage, DecodeJob, JobQueue
from captiond.decoding.replies import MalformedReply
from captiond.decoding.slots import Slots
from captiond.errors import ImageTooSlow, PoisonImage, SpoolError
from captiond.host.machine import usable_cores
from captiond.jobs import Refused
from captiond.messages import Decode, Decoded, Message, Work
from captiond.processes.box import missing_parts
from captiond.processes.channel import ChannelClosed, MessageTooLarge
from captiond.processes.children import ChildProcess
from captiond.processes.version import ended_for_its_version
from captiond.settings.config import Settings

if TYPE_CHECKING:
    from typing_extensions import Buffer

log = structlog.get_logger()
DECODER = "captiond.decoding.decoder"
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0  # seconds, after failed starts
EXIT_SECONDS = 5.0  # between the end of a decoder's messages and its exit


@dataclass(frozen=True, slots=True)
class DecoderDeath:
    """How a decoder ended that had an image to decode."""

    death: Death
    exit_code: int


def ignore(_: Death) -> None:
    """Take the death of a decoder that nobody counts."""


class DecodePool:
    """Sends images to decode processes, and owns the slots that they write the pixels into.

    `running_pool` makes a pool and owns its processes.
    """

    def __init__(
        self, settings: Settings, slots: Slots, on_death: Callable[[Death], None] = ignore
    ) -> None:
        self._settings = settings
        self._on_death = on_death
        self._slots = slots
        self._jobs = JobQueue(slots)
        self._limits = make_limits(settings)

    async def decode(
        self,
        work: Work,
        is_wanted: Callable[[], bool] = lambda: True,
        content: "Buffer | None" = None,
    ) -> DecodedImage | Refused | None:
        """Decode an image into a free slot, when it is its client's turn.

        An image that is not in the spool's folder is given as `content`. Interactive images have
        precedence over bulk images. The result is None if the image is not wanted any more when it
        is its turn.
        """
        answer: asyncio.Future[DecodedImage | Refused | None]
        answer = asyncio.get_running_loop().create_future()
        self._jobs.put(DecodeJob(work, is_wanted, answer, content))
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled() and isinstance(result := answer.result(), DecodedImage):
                self.free([result.slot])
            raise

    def free(self, slots: Iterable[int]) -> None:
        """Note that the pixels in these slots are not needed any more."""
        self._jobs.free(slots)

    async def keep_decoder(self) -> None:
        """Run a decoder, and start another one whenever it ends, until cancelled."""
        failures = 0
        while True:
            async with AsyncExitStack() as owned:
                try:
                    output = owned.enter_context(closing(PrintedOutput()))
                    handover = owned.enter_context(closing(Handover()))
                    decoder = await self._spawn(output, handover)
                    owned.push_async_callback(decoder.end)
                except OSError as error:  # a lack of memory or of descriptors may pass
                    log.error("decoder_not_started", reason=str(error))
                    failures += 1
                else:
                    code = await self._feed(decoder, output, handover)
                    failures = failures + 1 if ended_for_its_version(code) else 0
            if failures:
                await asyncio.sleep(backoff(failures, first=FIRST_DELAY, longest=LONGEST_DELAY))

    async def _feed(self, decoder: ChildProcess, output: PrintedOutput, handover: Handover) -> int:
        """Give a decoder one job after the other, until it ends. Return its exit code."""
        while True:
            await self._jobs.wait()
            # guard: idle-decoder-blames-nothing
            if not decoder.process.is_alive():  # it died while idle, so no image is the cause
                self._jobs.leave()
                code = decoder.process.exitcode or 0
                self._on_death(Death.by(code))
                return code
            job, slot = self._jobs.take()
            begun = time.monotonic()
            reply = await self._reply(decoder, job, slot, handover)
            self._jobs.finished(job, time.monotonic() - begun)
            self._log_printed(output, job.work)
            if isinstance(reply, Decoded):
                # guard: slot-without-a-caller
                if not job.resolve(DecodedImage(slot, reply)):
                    self._jobs.free([slot])
                continue
            self._jobs.free([slot])
            if isinstance(reply, DecoderDeath):
                with structlog.contextvars.bound_contextvars(**job.work.ids):
                    self._lost(job, reply)
                return reply.exit_code
            job.resolve(reply)

    def _log_printed(self, output: PrintedOutput, work: Work) -> None:
        """Log what a decoder has printed for an image, if anything."""
        size, text = output.take()
        if size:
            with structlog.contextvars.bound_contextvars(**work.ids):
                self._limits.log.printed(work.image.sha256, size, text)

    async def _reply(
        self, decoder: ChildProcess, job: DecodeJob, slot: int, handover: Handover
    ) -> Decoded | Refused | DecoderDeath | None:
        """Have an image decoded. Return None if it is not wanted any more."""
        # guard: unwanted-image-is-not-decoded
        if not job.is_wanted():
            return None
        request = Decode(job.work.image, slot, handed_over=job.content is not None)
        try:
            with handed_over(job, handover):
                reply = await exchange(decoder, request, self._limits)
            # guard: stored-size-fits-its-slot
            if isinstance(reply, Decoded) and not self._slots.has_space(*reply.stored):
                raise MalformedReply("no slot has space for pixels of this size")
            return reply
        except SpoolError as error:
            log.error("image_not_handed_over", reason=str(error))
            return Refused.of(error)
        except ChannelClosed:
            return await death_of(decoder)
        except (MalformedReply, MessageTooLarge) as error:
            log.error("decoder_reply_malformed", reason=str(error))
            decoder.kill()
            return DecoderDeath(Death.CRASHED, await decoder.exited())
        except TimeoutError:
            death = Death.KILLED if decoder.is_stopped() else Death.HUNG
            decoder.kill()
            return DecoderDeath(death, await decoder.exited())

    def _lost(self, job: DecodeJob, end: DecoderDeath) -> None:
        """Try a job again whose decoder ended, until its image counts as the cause."""
        self._on_death(end.death)
        # guard: other-version-blames-nothing
        if ended_for_its_version(end.exit_code):  # it has not read the image
            self._jobs.put(job)
            return
        # guard: decoder-death-blames-its-image
        job.blame += max(1, blame(end.death, batch=1))
        if end.exit_code == -signal.SIGPROF:
            seconds = self._limits.seconds
            self._limits.log.too_slow(job.work.image.sha256, seconds)
            error = ImageTooSlow(f"decoding takes more than {seconds:g} seconds")
            job.resolve(Refused.of(error))
            return
        log.warning("decoder_died", exit_code=end.exit_code, death=end.death.value, blame=job.blame)
        if job.blame >= BLAME_LIMIT:
            poison = PoisonImage("decoding this image ends the process that decodes it")
            job.resolve(Refused.of(poison))
        else:
            self._jobs.put(job)

    async def _spawn(self, output: PrintedOutput, handover: Handover) -> ChildProcess:
        shared = (self._slots, output, handover)

        def start(name: str, connection: "Connection[Message, Message]") -> DecoderStart:
            return DecoderStart(name, os.getpid(), self._settings, connection, *shared)

        return await ChildProcess.spawn(f"decoder-{secrets.token_hex(4)}", DECODER, start)


@contextmanager
def handed_over(job: DecodeJob, handover: Handover) -> Iterator[None]:
    """Put an image that is not in the spool's folder where its decoder reads it.

    Raises:
        SpoolError: there is no memory for it.
    """
    if job.content is None:
        yield
        return
    try:
        try:
            handover.put(job.content)
        except OSError as error:
            raise SpoolError(f"the image cannot be given to a decoder: {error.strerror}") from error
        yield
    finally:
        handover.clear()


async def death_of(decoder: ChildProcess) -> DecoderDeath:
    """Return how a decoder ends that has closed its channel.

    A decoder that was taken over may close its channel and go on, so it is killed after a while.
    """
    try:
        async with asyncio.timeout(EXIT_SECONDS):
            code = await decoder.exited()
            return DecoderDeath(Death.by(code), code)
    except TimeoutError:
        decoder.kill()
        return DecoderDeath(Death.HUNG, await decoder.exited())


@asynccontextmanager
async def running_pool(
    settings: Settings, slots: Slots, on_death: Callable[[Death], None] = ignore
) -> AsyncIterator[DecodePool]:
    """Run a pool; its processes end with the block. `on_death` is called for each that dies."""
    pool = DecodePool(settings, slots, on_death)
    if missing := missing_parts():
        log.warning("decoder_box_incomplete", missing=missing)
    async with asyncio.TaskGroup() as group:
        decoders = [group.create_task(pool.keep_decoder()) for _ in range(decoder_count(settings))]
        yield pool
        for decoder in decoders:
            decoder.cancel()


def make_limits(settings: Settings) -> DecoderLimits:
    """Return the limits of a pool. Each decoder has a standing part of the memory."""
    standing = decoder_count(settings) * standing_bytes(settings.limits.file_bytes)
    total = pool_bytes(settings)
    budget = MemoryBudget(max(total - standing, total // 2))
    return DecoderLimits(settings.images.decode_seconds, budget, DecoderLog())


def pool_bytes(settings: Settings) -> int:
    return budget_bytes(settings.images.decoders_memory, len(settings.model.devices))


def decoder_count(settings: Settings) -> int:
    """Return the number of decoders.

    Without a setting, it is the number of cores without the one that the model process uses, or
    less if their standing memory would be more than half of the budget.
    """
    cores = max(1, usable_cores() - 1)
    fitting = pool_bytes(settings) // 2 // standing_bytes(settings.limits.file_bytes)
    return settings.images.decoders or max(1, min(cores, fitting))

"""The images of shards in a model process: they are read, and their outcomes are waited for.

They go through the same decoders and batches as all other images, in a lane of their own. What is
read ahead is bounded by the number of images and of bytes.
"""

import asyncio
import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field

from captiond.backoff import backoff
from captiond.clients import Client
from captiond.deaths import BLAME_LIMIT
from captiond.errors import ImageError, PoisonImage, ReferenceUnavailable, ReferenceUnreadable
from captiond.jobs import Lane, Options, Outcome, Refused, SpooledImage
from captiond.messages import Work
from captiond.queues.bytebudget import ByteBudget
from captiond.references.addresses import ReferenceReader, is_object
from captiond.shardimages import ShardImage
from captiond.store.queued_shards import QueuedShard
from captiond.worker.completion import WITHDRAWN, FinishedImage
from captiond.worker.intake import ImageIntake
from captiond.worker.reporting import Reporter

AHEAD_BATCHES, MOST_AHEAD = 6, 1024  # images at once: three batches are with the model, three read
READS_AT_ONCE = 32
READ_BYTES = 128 * 1024 * 1024  # of images that wait for a decoder
READ_ATTEMPTS = 4
FIRST_RETRY, LONGEST_RETRY = 0.5, 5.0  # seconds between two attempts
PROBES = 5  # images of a shard, of which one must be readable
UNCACHED = Options(no_cache=True)  # millions of captions would push out those of clients
POISON = Refused.of(PoisonImage("the process that captioned this image died, more than once"))


@dataclass(frozen=True, slots=True)
class ReferenceOutcome:
    """The outcome of one image. `sha256` is the hash of its bytes, or None if they are not read."""

    outcome: Outcome
    sha256: str | None = None


@dataclass(eq=False)
class ShardInHand:
    """A shard that this process works at. It is `lost` once its results are not wanted any more."""

    shard: QueuedShard
    lost: bool = False
    tickets: set[str] = field(default_factory=set)

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.shard.claim.addresses

    def image(self, place: int) -> ShardImage:
        claim = self.shard.claim
        return ShardImage(claim.import_id, claim.number, claim.attempt, place)


class ShardOutcomes:
    """The outcomes of images that somebody in this process waits for, by their tickets."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}

    def finished(self, image: FinishedImage) -> None:
        """Give an outcome to whoever waits for it."""
        outcome = self._waiting.get(image.work.ticket)
        if outcome is not None and not outcome.done():
            outcome.set_result(image.outcome)

    @contextmanager
    def expected(self, ticket: str) -> Iterator["asyncio.Future[Outcome]"]:
        """Yield the outcome of an image that is accepted within the block."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = outcome
        try:
            yield outcome
        finally:
            del self._waiting[ticket]


class ShardImages:
    """Captions images by their addresses. `threads` are those that read files."""

    def __init__(
        self,
        intake: ImageIntake,
        outcomes: ShardOutcomes,
        reporter: Reporter,
        threads: Executor,
        *,
        most_bytes: int,
        batch_size: int,
    ) -> None:
        self._intake = intake
        self._outcomes = outcomes
        self._reporter = reporter
        self._threads = threads
        self._reader = ReferenceReader(most_bytes)
        self.most_ahead = min(MOST_AHEAD, AHEAD_BATCHES * batch_size)
        self._ahead = asyncio.Semaphore(self.most_ahead)
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._budget = ByteBudget(READ_BYTES)

    def lose(self, hand: ShardInHand) -> None:
        """Drop the images of a shard that are not captioned yet."""
        hand.lost = True
        for ticket in hand.tickets:
            self._reporter.withdraw(ticket)

    async def unreadable(self, hand: ShardInHand) -> str | None:
        """Return why this machine can read no image of a shard, or None if it can read some.

        A few images that are spread over the shard decide it.
        """
        problem = None
        step = max(1, len(hand.addresses) // PROBES)
        for address in hand.addresses[::step][:PROBES]:
            try:
                await self._read(address)
            except ReferenceUnreadable as error:
                problem = problem or f"{address}: {error}"
                continue
            except ImageError:
                pass  # it is too large, for example
            return None
        return problem

    async def caption(self, hand: ShardInHand, place: int) -> ReferenceOutcome:
        """Return the result of the image at a place of a shard."""
        blame = hand.shard.claim.blamed.get(place, 0)
        if blame >= BLAME_LIMIT:
            return ReferenceOutcome(POISON)
        async with self._ahead:
            if hand.lost:
                return ReferenceOutcome(WITHDRAWN)
            with self._expected(hand, place) as outcome:
                try:
                    sha256 = await self._prepare(hand, place, alone=blame > 0)
                except ImageError as error:
                    return ReferenceOutcome(Refused.of(error))
                return ReferenceOutcome(await outcome, sha256)

    @contextmanager
    def _expected(self, hand: ShardInHand, place: int) -> Iterator["asyncio.Future[Outcome]"]:
        ticket = hand.image(place).ticket
        hand.tickets.add(ticket)
        try:
            with self._outcomes.expected(ticket) as outcome:
                yield outcome
        finally:
            hand.tickets.discard(ticket)

    async def _prepare(self, hand: ShardInHand, place: int, *, alone: bool) -> str:
        """Read an image and have it decoded. Return the hash of its bytes.

        They are in memory until then, and counted from when they are read.
        """
        async with AsyncExitStack() as lent:
            async with self._reading:
                content = await self._read_patiently(hand.addresses[place])
                await lent.enter_async_context(self._budget.lent(len(content)))
            digest = hashlib.sha256(content).hexdigest()
            name = hand.image(place)
            work = Work(
                name.ticket,
                Lane.IMPORT,
                SpooledImage("", 0, len(content), digest),
                attempt=name.attempt,
                options=UNCACHED,
                alone=alone,
                client=Client(name.import_id),
            )
            await self._intake.accept(work, content)
        return digest

    async def _read_patiently(self, address: str) -> bytes:
        """Read an image. What may pass is tried again a few times."""
        for failures in range(1, READ_ATTEMPTS):
            try:
                return await self._read(address)
            except ReferenceUnavailable:
                delay = backoff(failures, first=FIRST_RETRY, longest=LONGEST_RETRY)
                await asyncio.sleep(delay)
        return await self._read(address)

    async def _read(self, address: str) -> bytes:
        if is_object(address):
            return await self._reader.read_object(address)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._reader.read_file, address)

"""On a node with a model: the clients of nodes without one, in the place of a web process.

Their images are claimed in the database while model processes have capacity for them, and asked for
as a web process asks, so they take their turns with the images of this node's own clients.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from captiond.errors import Draining, ModelNotReady, QueueFull
from captiond.jobs import Refused, SpooledImage
from captiond.messages import Answer, Ask, Drop, Message
from captiond.shielding import in_thread
from captiond.spool import Spool
from captiond.store import asks
from captiond.store.asks import AskOutcome, ClaimedAsk
from captiond.store.engine import Engine
from captiond.store.leases import owner_of
from captiond.store.outage import StorageOutage
from captiond.supervisor.assignment import waiting_since
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.dispatch import Dispatcher
from captiond.supervisor.peers import Peers, Topic
from captiond.supervisor.roster import ChildKind, Roster
from captiond.supervisor.routing import Router

log = structlog.get_logger()
NAME = "remote"  # of the web process that stands for the clients of other nodes
POLL_SECONDS, BUSY_SECONDS = 5.0, 0.2  # a notice may be lost; more images waited at the last claim
# This node cannot caption the image now; another one may.
NOT_HERE = frozenset({Draining.code, ModelNotReady.code, QueueFull.code})


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image of another node's client. `image` is the copy in this node's spool."""

    ask: ClaimedAsk
    image: SpooledImage


class RemoteClients:
    """Captions interactive images of other nodes. `node` is this one."""

    def __init__(
        self,
        engine: Engine,
        node: str,
        spool: Spool,
        roster: Roster,
        router: Router,
        peers: Peers,
        dispatcher: Dispatcher,
        cleaner: SpoolCleaner,
    ) -> None:
        self._engine = engine
        self._owner = owner_of(node, NAME)
        self._spool = spool
        self._dispatcher = dispatcher
        self._roster = roster
        self._router = router
        self._peers = peers
        self._cleaner = cleaner
        self._next_ticket = 0
        self._taken: dict[int, RemoteImage] = {}
        self._answers: dict[int, Answer] = {}
        self._more = False
        self._doubtful = False  # the last claim had no answer, or an image could not be stored
        self._wake = asyncio.Event()
        self._outage = StorageOutage("images of other nodes")
        roster.attach(ChildKind.WEB, NAME, self._receive)
        peers.on(Topic.ASKED, lambda _: self._wake.set())
        peers.on(Topic.WITHDRAWN, lambda ids: self._withdrawn(frozenset(ids)))

    def wake(self) -> None:
        """Look for images soon, or at the stop."""
        self._wake.set()

    async def run(self) -> None:
        """Work until a stop has begun and every image that was taken has its answer.

        On SQLite this ends at once.
        """
        while self._engine.database.shared and (self._taken or not self._roster.draining):
            await self._wait()
            self._wake.clear()
            with self._outage.tolerated():
                await self._answer()
                if not self._roster.draining:
                    await self._take()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            # guard: poll-for-lost-asks
            async with asyncio.timeout(BUSY_SECONDS if self._more else POLL_SECONDS):
                await self._wake.wait()

    def _receive(self, message: Message) -> None:
        if isinstance(message, Answer) and message.ticket in self._taken:
            self._answers[message.ticket] = message
            self._wake.set()

    def _withdrawn(self, ids: frozenset[str]) -> None:
        """Drop images whose clients are gone."""
        tickets = tuple(n for n, taken in self._taken.items() if taken.ask.id in ids)
        if tickets:
            self._router.from_web(NAME, Drop(tickets))
            self._forget(tickets)

    async def _take(self) -> None:
        capacity = self._dispatcher.interactive_capacity()
        self._more = False
        if not capacity:
            return
        if self._doubtful:
            known = [taken.ask.id for taken in self._taken.values()]
            await asks.disown(self._engine, owner=self._owner, known=known)
        self._doubtful = True
        claimed = await asks.claim(self._engine, capacity, owner=self._owner)
        self._more = len(claimed) == capacity
        for ask in claimed:
            self._ask_for(ask, await self._spooled(ask))
        self._doubtful = False

    def _ask_for(self, ask: ClaimedAsk, image: SpooledImage) -> None:
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._taken[ticket] = RemoteImage(ask, image)
        since = waiting_since(ask.created_at)
        message = Ask(ticket, (image,), ask.options, client=ask.client, since=since)
        self._router.from_web(NAME, message)

    async def _spooled(self, ask: ClaimedAsk) -> SpooledImage:
        """Write an image to a file of this node, where image decoders can read it."""
        writer = self._spool.writer(NAME, durable=False)
        try:
            writer.begin()
            writer.write(memoryview(ask.content))
            image = writer.end()
            await writer.commit()
        except BaseException:
            await in_thread(writer.discard)
            raise
        return image

    async def _answer(self) -> None:
        """Store the outcomes that have come, and notify the nodes that wait for them."""
        answers = dict(self._answers)
        returned, outcomes = [], []
        for ticket, answer in answers.items():
            ask, outcome = self._taken[ticket].ask, answer.outcome
            if isinstance(outcome, Refused) and outcome.code in NOT_HERE:
                returned.append((ask.id, ask.attempt))
            else:
                outcomes.append(AskOutcome(ask.id, ask.attempt, outcome))
        if returned:
            await asks.release(self._engine, returned, owner=self._owner)
            self._peers.say(Topic.ASKED)
        if outcomes:
            askers = await asks.answer(self._engine, outcomes, owner=self._owner)
            self._peers.say(Topic.ANSWERED, *askers)
        self._forget(answers)

    def _forget(self, tickets: Iterable[int]) -> None:
        for ticket in tickets:
            self._answers.pop(ticket, None)
            if (taken := self._taken.pop(ticket, None)) is not None:
                self._cleaner.remove([taken.image.file])

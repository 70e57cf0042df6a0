"""On a node without a model: the models of all other nodes, in the place of one model process.

The dispatcher assigns interactive images to it as to any other model process, so queues, turns,
limits and deadlines are as on a node with a model. It sends them through the database, and returns
their outcomes as a model process does.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import structlog

from captiond.errors import CaptiondError, ModelNotReady, StoreError, Withdrawn, WorkerLost
from captiond.jobs import Outcome, Refused
from captiond.messages import Finished, Message, Ready, Unready, Withdraw, Work
from captiond.spool import Spool
from captiond.store import asks
from captiond.store.asks import NewAsk
from captiond.store.engine import Engine
from captiond.store.outage import StorageOutage
from captiond.supervisor.assignment import accepted_at
from captiond.supervisor.nodereport import NodeReport
from captiond.supervisor.peers import Peers, Topic
from captiond.supervisor.roster import ChildKind, Roster
from captiond.supervisor.routing import Router

log = structlog.get_logger()
NAME = "elsewhere"  # of the model process that stands for the models of all other nodes
POLL_SECONDS = 1.0  # while images are away; a notice may be lost
NO_WORKER = "no node with a model is connected"


class RemoteModel:
    """Has interactive images captioned by other nodes. `node` is this one."""

    def __init__(
        self, engine: Engine, node: str, spool: Spool, roster: Roster, router: Router, peers: Peers
    ) -> None:
        self._engine = engine
        self._node = node
        self._spool = spool
        self._router = router
        self._peers = peers
        self._report: Ready | Unready | None = None
        self._new: dict[str, Work] = {}
        self._away: dict[str, Work] = {}  # by the id of the ask
        self._gone: set[str] = set()  # ids of asks to delete
        self._wake = asyncio.Event()
        self._outage = StorageOutage("images for other nodes")
        roster.attach(ChildKind.MODEL, NAME, self._receive)
        peers.on(Topic.ANSWERED, self._answered)

    def reports_read(self, reports: Mapping[str, NodeReport | None]) -> None:
        """Note what the other nodes can do now."""
        report = combined([each for each in reports.values() if each is not None])
        if report == self._report:
            return
        self._report = report
        if isinstance(report, Ready):
            self._router.remote_ready(NAME, report)
        else:
            self._router.remote_unready(NAME, report)

    async def run(self) -> None:
        """Work until cancelled. In a stop, web processes need it for the requests they have."""
        while True:
            await self._wait()
            self._wake.clear()
            await self._send()
            with self._outage.tolerated():
                await self._fetch()
                await self._delete()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            # guard: poll-for-lost-answers
            async with asyncio.timeout(POLL_SECONDS if self._away else None):
                await self._wake.wait()

    def _receive(self, message: Message) -> None:
        match message:
            case Work():
                self._new[self._id_of(message.ticket)] = message
            case Withdraw(ticket):
                self._withdraw(self._id_of(ticket))
            case _:
                raise TypeError(f"a model of other nodes receives no {type(message).__name__}")
        self._wake.set()

    def _id_of(self, ticket: str) -> str:
        return f"{self._node}/{ticket}"

    def _answered(self, nodes: Sequence[str]) -> None:
        if self._node in nodes:
            self._wake.set()

    def _withdraw(self, ask: str) -> None:
        work = self._new.pop(ask, None) or self._away.pop(ask, None)
        if work is not None:
            self._gone.add(ask)
            self._peers.say(Topic.WITHDRAWN, ask)
            self._finish(work, Refused.of(Withdrawn("the client is gone")))

    def _finish(self, work: Work, outcome: Outcome) -> None:
        self._router.from_model(NAME, NAME, Finished(work.ticket, outcome))

    async def _send(self) -> None:
        """Insert the new images. Those that cannot be inserted are refused."""
        new, self._new = self._new, {}
        if not new:
            return
        self._away.update(new)
        try:
            await asks.put(self._engine, self._node, await asyncio.to_thread(self._read, new))
        except (CaptiondError, OSError) as error:
            known = error if isinstance(error, CaptiondError) else StoreError(str(error))
            self._give_back({ask: Refused.of(known) for ask in new})
            return
        self._peers.say(Topic.ASKED)

    def _read(self, works: Mapping[str, Work]) -> list[NewAsk]:
        """Return images with their bytes, which are read in a thread."""
        return [
            NewAsk(
                ask,
                accepted_at(work.since),
                work.client,
                work.options,
                work.image.sha256,
                self._spool.read(work.image),
            )
            for ask, work in works.items()
        ]

    async def _fetch(self) -> None:
        """Answer the images that have an outcome, and send those again that are missing.

        The table is empty after a crash of the database server.
        """
        if not self._away:
            return
        away = set(self._away)
        answers = await asks.answers(self._engine, self._node)
        lost = Refused.of(WorkerLost("the nodes that had this image died; try again"))
        outcomes = {ask: outcome or lost for ask, outcome in answers.outcomes.items()}
        self._gone |= outcomes.keys()
        self._give_back(outcomes)
        # guard: lost-asks-sent-again
        for ask in (away & self._away.keys()) - answers.open:
            self._new[ask] = self._away.pop(ask)
            self._wake.set()

    def _give_back(self, outcomes: Mapping[str, Outcome]) -> None:
        for ask, outcome in outcomes.items():
            work = self._away.pop(ask, None)
            if work is not None:
                self._finish(work, outcome)

    async def _delete(self) -> None:
        gone = set(self._gone)
        if gone:
            await asks.remove(self._engine, gone)
            self._gone -= gone


def combined(reports: Sequence[NodeReport]) -> Ready | Unready:
    """Return what the models of all other nodes can do together."""
    ready = [report for report in reports if report.captions]
    for first in ready:
        assert first.model is not None
        window = sum(report.window for report in ready)
        return Ready(first.model, window, sum(report.reserve for report in ready))
    reasons = dict.fromkeys(reason for report in reports for reason in report.reasons)
    code = next((report.code for report in reports if report.code), ModelNotReady.code)
    return Unready("; ".join(reasons) or NO_WORKER, code)

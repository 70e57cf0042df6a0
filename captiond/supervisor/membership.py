"""The node among the others: its lease and its report, their reports, the claims of dead nodes."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from captiond.store import leases
from captiond.store.engine import Engine
from captiond.store.outage import StorageOutage
from captiond.supervisor.assignment import Assignment
from captiond.supervisor.dispatch import Dispatcher
from captiond.supervisor.nodereport import NodeReport, report_from, report_text
from captiond.supervisor.peers import Peers, Topic
from captiond.supervisor.routing import Router
from captiond.supervisor.statusboard import StatusBoard

log = structlog.get_logger()
RENEWALS = 6  # in the time of a lease; four may fail before it expires
LOOK_SECONDS = 2.0  # between two readings of the other nodes' reports, which notices hasten
OnReports = Callable[[Mapping[str, NodeReport | None]], None]


class Membership:
    """Keeps the lease on this node's claims, and takes over the claims of nodes that are dead.

    `on_reports` gets the reports of the other nodes regularly. `uploads` is `[uploads] url`.
    """

    def __init__(
        self,
        engine: Engine,
        node: str,
        dispatcher: Dispatcher,
        assignment: Assignment,
        router: Router,
        status: StatusBoard,
        peers: Peers,
        on_reports: OnReports,
        *,
        uploads: str = "",
        lease_seconds: float = leases.LEASE_SECONDS,
    ) -> None:
        self._engine = engine
        self._node = node
        self._dispatcher = dispatcher
        self._assignment = assignment
        self._router = router
        self._status = status
        self._peers = peers
        self._on_reports = on_reports
        self._uploads = uploads
        self._lease_seconds = lease_seconds
        self._reported: NodeReport | None = None
        self._look = asyncio.Event()
        self._outage = StorageOutage("renewal of the lease")
        peers.on(Topic.REPORTED, lambda _: self._look.set())

    @property
    def results_wait(self) -> bool:
        """Whether the database could not be written the last time, while images are claimed."""
        return self._outage.lasts

    async def run_renewals(self) -> None:
        """Renew the lease of this node regularly, and look for nodes that are dead."""
        while True:
            with self._outage.tolerated():
                await self._renew()
                requeued = await leases.requeue_expired(self._engine, self._node)
                if requeued:
                    log.warning("expired_lease_requeued", images=requeued)
                    self._assignment.bulk_hint()
            await asyncio.sleep(self._lease_seconds / RENEWALS)

    async def run_reports(self) -> None:
        """Report to the other nodes, and read what they report. On SQLite this ends at once."""
        outage = StorageOutage("reports of nodes")
        while self._engine.database.shared:
            self._look.clear()
            with outage.tolerated():
                if self._report() != self._reported:
                    await self._renew()
                    self._peers.say(Topic.REPORTED)
                await self._read_reports()
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._look.wait()
        except TimeoutError:
            return

    async def _renew(self) -> None:
        report = self._report()
        held = await leases.renew(
            self._engine, self._node, self._lease_seconds, report=report_text(report)
        )
        self._reported = report
        if not held:
            await self._drop_lost_claims()

    async def _drop_lost_claims(self) -> None:
        """Withdraw the images of tasks that others may have claimed since the lease expired."""
        known = self._dispatcher.claimed()
        # guard: lost-claims-dropped
        if known and (lost := known - await leases.images_held(self._engine, self._node)):
            log.warning("lease_lost", images=len(lost))
            self._router.withdraw_images(lost)

    def _report(self) -> NodeReport:
        window, reserve = self._dispatcher.whole_window()
        return replace(
            NodeReport.of(self._status.state),
            rate=self._status.own_rate,
            window=window,
            reserve=reserve,
            uploads=self._uploads,
        )

    async def _read_reports(self) -> None:
        texts = await leases.living(self._engine, self._node)
        self._peers.alone = not texts
        reports = {node: report_from(text) for node, text in texts.items()}
        self._status.others_finish(sum(each.rate for each in reports.values() if each))
        self._on_reports(reports)

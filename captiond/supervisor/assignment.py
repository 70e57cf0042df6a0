"""Assignment: the loops that send images to model processes."""

import asyncio
import time
from collections.abc import Iterable

import structlog

from captiond.jobs import Lane, Refused
from captiond.messages import Work
from captiond.metrics import CLAIMED, IMAGES_FINISHED, REQUEUED
from captiond.recording import Recorder
from captiond.shardimages import ShardImage
from captiond.store import claims, leases, queued_shards
from captiond.store.engine import Engine
from captiond.store.leases import owner_of
from captiond.store.outage import StorageOutage
from captiond.store.patience import until_stored
from captiond.supervisor.changes import TaskChanges
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.courier import Courier
from captiond.supervisor.dispatch import Dispatcher
from captiond.supervisor.roster import ChildKind, Roster

log = structlog.get_logger()
POLL_SECONDS = 5.0  # a hint may be lost, so the database is asked again after this time


class Assignment:
    """Assigns interactive images, and claims bulk images, whenever a model process has capacity."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        roster: Roster,
        engine: Engine,
        node: str,
        recorder: Recorder,
        cleaner: SpoolCleaner,
        courier: Courier,
        changes: TaskChanges,
        *,
        lease_seconds: float = leases.LEASE_SECONDS,
    ) -> None:
        self._dispatcher = dispatcher
        self._roster = roster
        self._engine = engine
        self._node = node
        self._recorder = recorder
        self._cleaner = cleaner
        self._courier = courier
        self._changes = changes
        self._lease_seconds = lease_seconds
        self._outage = StorageOutage("claim of images")
        self._interactive, self._bulk = asyncio.Event(), asyncio.Event()
        self._bulk_waits = True
        self._doubtful: set[str] = set()  # processes whose last claim had no answer

    def wake(self) -> None:
        """Check whether there is work to assign, and a process that has capacity for it."""
        self._interactive.set()
        self._bulk.set()

    def bulk_hint(self) -> None:
        """Check the database for bulk images soon."""
        self._bulk_waits = True
        self.wake()

    async def run_interactive(self) -> None:
        """Assign interactive images until cancelled."""
        while True:
            self._interactive.clear()
            for model, work in self._dispatcher.assign_interactive():
                self._send(model, work)
            await self._interactive.wait()

    async def run_bulk(self) -> None:
        """Claim bulk images until cancelled.

        This is a task of its own, so that interactive images never wait for the database.
        """
        await self._recover()
        while True:
            self._bulk.clear()
            if self._bulk_waits and not self._roster.draining:
                await self._claim()
            await self._bulk.wait()

    async def run_poll(self) -> None:
        """Check the database for bulk images every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            # guard: poll-for-lost-hints
            self.bulk_hint()

    async def requeue(
        self,
        model: str,
        blamed: dict[int, int] | None = None,
        blamed_imported: dict[ShardImage, int] | None = None,
    ) -> None:
        """Requeue the claims of a model process that has exited.

        `blamed` holds points of blame by image id, and `blamed_imported` those of images of
        imports. This waits until the database can be written.

        Raises:
            StoreRefused: The database would refuse it every time. This ends the service, and the
                next start requeues the claims.
        """
        requeued = await until_stored(
            lambda: claims.requeue(
                self._engine,
                now=time.time(),
                owner=owner_of(self._node, model),
                blamed=blamed,
            )
        )
        shards = await until_stored(
            lambda: queued_shards.release_shards_of(
                self._engine, owner_of(self._node, model), blamed_imported
            )
        )
        if shards:
            log.info("shards_released", shards=shards, child=model)
        self._doubtful.discard(model)
        self._count_refused(requeued.refused)
        if requeued.waiting:
            self._recorder.count(REQUEUED, amount=requeued.waiting)
        if requeued.waiting or requeued.refused:
            log.info(
                "requeued",
                images=requeued.waiting,
                poison=len(requeued.refused),
                child=model,
                blamed=len(blamed or {}),
            )
        self.bulk_hint()

    async def _recover(self) -> None:
        """Requeue what an earlier run of the service had claimed when it ended."""
        # guard: requeue-at-start
        requeued = await until_stored(lambda: leases.recover(self._engine, self._node))
        log.info("recovered", requeued=requeued)

    async def _claim(self) -> None:
        for model, capacity in self._dispatcher.bulk_capacity():
            self._bulk_waits = False  # before the claim, so that a hint during the claim counts
            owner = owner_of(self._node, model)
            claimed: list[claims.Claim] = []
            with self._outage.tolerated():  # the next poll tries again
                await self._disown(model)
                self._doubtful.add(model)
                brought = await claims.claim(
                    self._engine,
                    capacity,
                    owner=owner,
                    now=time.time(),
                    lease=self._lease_seconds,
                )
                claimed = self._without_finished(brought)
                if brought.busy:
                    self.bulk_hint()
                self._doubtful.discard(model)
            self._recorder.count(CLAIMED, amount=len(claimed))
            self._bulk_waits |= len(claimed) == capacity
            if not self._roster.has(ChildKind.MODEL, model):
                await self.requeue(model)  # the process died during the claim
                continue
            for claim in claimed:
                work = bulk_work(claim, waiting_since(claim.accepted_at))
                self._dispatcher.assign_bulk(model, work)
                self._send(model, work)

    async def _disown(self, model: str) -> None:
        """Requeue what a claim may have brought whose answer was lost with the connection."""
        # guard: claims-of-lost-answers
        if model in self._doubtful:
            known = self._dispatcher.claimed_by(model)
            owner = owner_of(self._node, model)
            disowned = await claims.disown(self._engine, owner=owner, known=known)
            if disowned:
                log.warning("unanswered_claim_requeued", images=disowned, child=model)
            self._doubtful.discard(model)

    def _count_refused(self, outcomes: Iterable[Refused]) -> None:
        """Count images that failed in the database: no model process reports them."""
        for outcome in outcomes:
            self._recorder.count(IMAGES_FINISHED, Lane.BULK, outcome.code)

    def _send(self, model: str, work: Work) -> None:
        log.debug("image_assigned", **work.ids, child=model, lane=work.lane.value)
        self._roster.send(ChildKind.MODEL, model, work)

    def _without_finished(self, claimed: claims.Claimed) -> list[claims.Claim]:
        """Return the claims, after what follows from the tasks that failed in the claim."""
        # guard: tasks-that-fail-in-a-claim
        self._cleaner.remove(claimed.unneeded)
        self._count_refused(claimed.refused)
        if claimed.failed:
            self._courier.hint()
        self._changes.note(*claimed.failed, *{claim.task_id for claim in claimed.claims})
        return claimed.claims


def waiting_since(accepted_at: float) -> float:
    """Return a Unix time as one of `time.monotonic`; now if the clock was set back since then."""
    return time.monotonic() - max(0.0, time.time() - accepted_at)


def accepted_at(since: float) -> float:
    """Return a time of `time.monotonic` as a Unix time; now if it is not known."""
    return time.time() - (max(0.0, time.monotonic() - since) if since else 0.0)


def bulk_work(claim: claims.Claim, since: float) -> Work:
    """Return a claimed image as a message for the model process that it was claimed for."""
    return Work(
        ticket=f"image:{claim.image_id}:{claim.attempt}",
        lane=Lane.BULK,
        image=claim.image,
        image_id=claim.image_id,
        attempt=claim.attempt,
        options=claim.options,
        alone=claim.blame > 0,
        client=claim.client,
        task_id=claim.task_id,
        since=since,
    )

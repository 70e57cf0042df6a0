"""Shards of queued imports, as work for a model process that has nothing else to do.

A shard is claimed when no other image waits in this process, and when the model would soon be out
of images. Its results are written and it is finished, unless its claim was lost meanwhile.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from captiond.backoff import backoff
from captiond.errors import SettingsError, StorageFailed
from captiond.jobs import Captioned
from captiond.references.manifests import COLUMN
from captiond.references.result_rows import result_fields
from captiond.references.shard_files import ShardFiles
from captiond.shielding import in_thread
from captiond.store import queued_shards
from captiond.store.engine import Engine
from captiond.store.outage import StorageOutage
from captiond.store.patience import until_stored
from captiond.store.shard_claims import EXTEND_SECONDS, finish_shard
from captiond.worker.shard_images import ReferenceOutcome, ShardImages, ShardInHand

log = structlog.get_logger()
POLL_SECONDS = 2.0  # while no shard waits, or other images do
MOST_REFUSALS = 8  # then each image that cannot be read gets an error
FIRST_REST, LONGEST_REST = 10.0, 300.0  # seconds without claims of an import after a refusal
FORGOTTEN = 3600.0  # seconds after its end until a rest is forgotten


@dataclass(slots=True)
class Rest:
    """How long this process leaves an import alone, which it cannot work at."""

    refusals: int = 0
    until: float = 0.0


class Rests:
    """The imports that this process leaves alone for a while. Time is an argument."""

    def __init__(self) -> None:
        self._rests: dict[str, Rest] = {}

    def __len__(self) -> int:
        return len(self._rests)

    def begin(self, import_id: str, now: float) -> None:
        """Leave an import alone, each time longer, up to LONGEST_REST."""
        rest = self._rests.setdefault(import_id, Rest())
        rest.refusals += 1
        rest.until = now + backoff(rest.refusals, first=FIRST_REST, longest=LONGEST_REST)

    def end(self, import_id: str) -> None:
        """Forget an import at which this process could work."""
        self._rests.pop(import_id, None)

    def resting(self, now: float) -> list[str]:
        """Return the imports to leave alone. One that has not been refused for long is forgotten.

        It may have been finished elsewhere.
        """
        recent = {name: rest for name, rest in self._rests.items() if rest.until > now - FORGOTTEN}
        self._rests = recent
        return [name for name, rest in recent.items() if rest.until > now]


class ShardSource:
    """Claims shards under the name `owner`, and works at them. `is_busy` says that others wait."""

    def __init__(
        self, engine: Engine, owner: str, images: ShardImages, is_busy: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._images = images
        self._is_busy = is_busy
        self._hands: set[ShardInHand] = set()
        self._open = 0  # images of all shards in hand that have no outcome
        self._rests = Rests()
        self._changed = asyncio.Event()
        self._outage = StorageOutage("claim of shards")

    async def run(self) -> None:
        """Work until cancelled. The supervisor releases what is not finished then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_claims())
            while True:
                self._changed.clear()
                if self._has_room() and await self._begin_next(group):
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._changed.wait()

    def _has_room(self) -> bool:
        return self._open < self._images.most_ahead and not self._is_busy()

    async def _begin_next(self, group: asyncio.TaskGroup) -> bool:
        """Claim a shard, and let a task of `group` work at it. Return False if none waits."""
        resting = self._rests.resting(time.monotonic())
        with self._outage.tolerated():
            shard = await queued_shards.claim_next(self._engine, self._owner, without=resting)
            if shard is not None:
                hand = ShardInHand(shard)
                self._hands.add(hand)
                self._open += len(hand.addresses)
                group.create_task(self._work_at(hand))
                return True
        return False

    async def _keep_claims(self) -> None:
        """Extend the claims again and again. Drop the shards whose claim is lost or cancelled."""
        while True:
            await asyncio.sleep(EXTEND_SECONDS)
            hands = {hand.shard.claim: hand for hand in self._hands if not hand.lost}
            with self._outage.tolerated():
                held = await queued_shards.hold(self._engine, list(hands))
                for claim in hands.keys() - set(held):
                    self._images.lose(hands[claim])

    async def _work_at(self, hand: ShardInHand) -> None:
        """Caption a shard, and finish or refuse it."""
        left = len(hand.addresses)
        try:
            problem = await self._problem(hand)
            if problem is None:
                results = await self._caption(hand)
                left = 0
                problem = await self._finish(hand, results)
            if problem is not None:
                await self._refuse(hand, problem)
        finally:
            self._hands.discard(hand)
            self._open -= left
            self._changed.set()

    async def _problem(self, hand: ShardInHand) -> str | None:
        """Return why this machine cannot work at a shard, if it cannot."""
        claim = hand.shard.claim
        try:
            files = ShardFiles(hand.shard.output, hand.shard.form)
            await asyncio.to_thread(files.check_place, claim.import_id)
        except (SettingsError, StorageFailed) as error:
            return str(error)
        # guard: unreadable-shard-is-refused
        if claim.refusals >= MOST_REFUSALS:
            return None
        return await self._images.unreadable(hand)

    async def _caption(self, hand: ShardInHand) -> list[ReferenceOutcome]:
        async def caption(place: int) -> ReferenceOutcome:
            try:
                return await self._images.caption(hand, place)
            finally:
                self._open -= 1
                if self._open < self._images.most_ahead:
                    self._changed.set()

        return await asyncio.gather(*map(caption, range(len(hand.addresses))))

    async def _finish(self, hand: ShardInHand, results: list[ReferenceOutcome]) -> str | None:
        """Write the results of a shard and finish it. Return why they cannot be written, if so."""
        claim = hand.shard.claim
        # guard: lost-shard-is-not-written
        if not await until_stored(lambda: queued_shards.hold(self._engine, [claim])):
            log.warning("shard_lost", import_id=claim.import_id, shard=claim.number)
            return None
        rows = [
            {COLUMN: address, **result_fields(result.outcome, result.sha256)}
            for address, result in zip(hand.addresses, results, strict=True)
        ]
        files = ShardFiles(hand.shard.output, hand.shard.form)
        try:
            await in_thread(files.write, claim.number, rows)
        except StorageFailed as error:
            return str(error)
        captioned = sum(isinstance(each.outcome, Captioned) for each in results)
        failed = len(results) - captioned
        finished = await until_stored(
            lambda: finish_shard(
                self._engine, claim, captioned=captioned, failed=failed, now=time.time()
            )
        )
        self._rests.end(claim.import_id)
        log.debug("shard_finished", import_id=claim.import_id, shard=claim.number, kept=finished)
        return None

    async def _refuse(self, hand: ShardInHand, problem: str) -> None:
        """Leave a shard to other machines, and its import as well for a while."""
        claim = hand.shard.claim
        self._rests.begin(claim.import_id, time.monotonic())
        log.warning("shard_refused", import_id=claim.import_id, shard=claim.number, reason=problem)
        text = f"{self._owner.partition('/')[0]}: {problem}"
        await until_stored(lambda: queued_shards.refuse(self._engine, claim, text))

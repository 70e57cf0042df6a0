"""What the supervisor does with tasks that fail in a claim, and claims without an answer."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from captiond.errors import StoreUncertain
from captiond.jobs import Status
from captiond.metrics import CLAIMED, IMAGES_FINISHED
from captiond.shardimages import ShardImage
from captiond.store import claims, leases, tasks
from captiond.store.engine import Engine, reading, writing
from captiond.supervisor.roster import ChildKind
from tests.unit.supervised import NODE, background, spawned, supervised, until
from tests.unit.test_deliveries import task
from tests.unit.test_queued_shards import claimed, queued

pytestmark = pytest.mark.anyio


async def test_the_file_of_a_task_that_fails_in_a_claim_is_removed(
    store: Engine, tmp_path: Path
) -> None:
    """Nothing else would remove it for an hour: no model process ever has an image of the task."""
    await tasks.create_task(store, task("t", images=2))
    async with writing(store) as connection:
        await connection.execute(text("UPDATE tasks SET options = '{'"))
    async with supervised(tmp_path, store) as parts:
        (parts.settings.spool / "spool-t").write_bytes(b"x")
        parts.dispatcher.model_ready("model0", 8, 0)
        async with background(parts.assignment.run_bulk()):
            await until(lambda: not any(parts.settings.spool.iterdir()))
        assert parts.recorder.take().counts == {
            (CLAIMED.name, ()): 0,
            (IMAGES_FINISHED.name, ("bulk", "internal_error")): 2,
        }
    ended = await tasks.read_task(store, "t")
    assert ended is not None
    assert ended.status is Status.FAILED


async def test_claims_whose_answer_was_lost_wait_again(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has carried a claim out, but the connection was lost before its answer."""
    await tasks.create_task(store, task("t", images=5))
    claim, lost = claims.claim, asyncio.Event()

    async def claim_without_answer(engine: Engine, limit: int, **options: Any) -> claims.Claimed:
        claimed = await claim(engine, limit, **options)
        if not lost.is_set():
            lost.set()
            raise StoreUncertain("the connection was lost during a commit")
        return claimed

    monkeypatch.setattr(claims, "claim", claim_without_answer)
    async with supervised(tmp_path, store) as parts, spawned(parts.settings, "model0-1") as child:
        parts.roster.add(ChildKind.MODEL, child)
        parts.dispatcher.model_ready(child.name, 2, 0)
        async with background(parts.assignment.run_bulk()):
            await until(lost.is_set)
            parts.assignment.bulk_hint()
            await until(lambda: len(parts.dispatcher.claimed_by(child.name)) == 2)
    async with reading(store) as connection:
        query = text("SELECT count(*) FROM images WHERE status = 'PROCESSING'")
        assert (await connection.execute(query)).scalar_one() == 2


async def test_images_that_a_claim_left_out_are_claimed_at_once(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another transaction had locked their tasks. The next hint may be seconds away."""
    await tasks.create_task(store, task("t", images=2))
    claim = claims.claim

    async def claim_less(engine: Engine, limit: int, **options: Any) -> claims.Claimed:
        claimed = await claim(engine, 1, **options)
        return replace(claimed, busy=bool(claimed.claims))

    monkeypatch.setattr(claims, "claim", claim_less)
    async with supervised(tmp_path, store) as parts, spawned(parts.settings, "model0-1") as child:
        parts.roster.add(ChildKind.MODEL, child)
        parts.dispatcher.model_ready(child.name, 8, 0)
        async with background(parts.assignment.run_bulk()):
            await until(lambda: len(parts.dispatcher.claimed_by(child.name)) == 2)


async def test_the_shards_of_a_dead_process_wait_again(store: Engine, tmp_path: Path) -> None:
    await queued(store, "one", [2])
    async with supervised(tmp_path, store) as parts:
        owner = leases.owner_of(NODE, "model0-1")
        claim = (await claimed(store, owner)).claim
        image = ShardImage("one", claim.number, claim.attempt, 1)
        await parts.assignment.requeue("model0-1", {}, {image: 3})
        again = (await claimed(store, owner)).claim
    assert (again.attempt, again.blamed) == (2, {1: 3})

"""Shards of queued imports: turns of imports, claims that end, and images that are blamed."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from captiond.errors import StoreDamaged
from captiond.jobs import Status
from captiond.shardimages import ShardImage
from captiond.store import consistency, leases, shard_claims, shards
from captiond.store.engine import Engine, reading, writing
from captiond.store.queued_shards import (
    QueuedShard,
    claim_next,
    hold,
    refuse,
    release_shards_of,
)
from captiond.store.shards import NewImport

pytestmark = pytest.mark.anyio
HERE, THERE = "here-0a-1", "there-0b-2"
OWNER = leases.owner_of(HERE, "model0-1f")


@pytest.fixture(autouse=True)
async def consistent(store: Engine) -> AsyncIterator[None]:
    """Check after each test that nothing contradicts itself."""
    yield
    assert await consistency.contradictions(store) == []


async def queued(store: Engine, name: str, images: list[int], *, queue: bool = True) -> None:
    """Make an import that has shards of so many images."""
    new = NewImport(name, ("/photos",), "uri", f"/{name}", "jsonl", 9, 1.0, queue)
    await shards.join_import(store, new)
    assert await shards.begin_listing(store, name, "lister")
    parts = [[f"/photos/{n}.png" for n in range(size)] for size in images]
    assert await shards.add_shards(store, name, "lister", parts)
    await shards.end_listing(store, name, "lister", now=2.0)


async def claimed(store: Engine, owner: str = OWNER) -> QueuedShard:
    shard = await claim_next(store, owner)
    assert shard is not None
    return shard


async def owners(store: Engine) -> list[str | None]:
    async with reading(store) as connection:
        return list(
            (await connection.execute(text("SELECT owner FROM shards ORDER BY number"))).scalars()
        )


async def test_imports_take_turns_by_their_images(store: Engine) -> None:
    await queued(store, "large", [4, 4, 4])
    first = await claimed(store)
    assert (first.output, first.form, first.claim.attempt) == ("/large", "jsonl", 1)
    await queued(store, "late", [2, 2, 2, 2])
    turns = [(await claimed(store)).claim.import_id for _ in range(6)]
    assert turns == ["large", "late", "late", "large", "late", "late"]
    assert await claim_next(store, OWNER) is None


async def test_a_damaged_shard_holds_up_its_own_import_only(store: Engine) -> None:
    await queued(store, "damaged", [1])
    await queued(store, "whole", [1])
    async with writing(store) as connection:
        damage = text("UPDATE shards SET addresses = 'x' WHERE import_id = 'damaged'")
        await connection.execute(damage)
    assert (await claimed(store)).claim.import_id == "whole"
    with pytest.raises(StoreDamaged, match="damaged: the row of shard 0 is damaged"):
        await claim_next(store, OWNER)
    assert (await shards.read_import(store, "damaged")).open_shards == 1
    await shards.cancel_import(store, "damaged", now=3.0)
    assert await claim_next(store, OWNER) is None


async def test_an_import_of_a_command_is_left_to_it_until_it_is_queued(store: Engine) -> None:
    await queued(store, "own", [1], queue=False)
    assert await claim_next(store, OWNER) is None
    new = NewImport("other", ("/photos",), "uri", "/own", "jsonl", 9, 1.0, queued=True)
    assert (await shards.join_import(store, new)).queued
    assert (await claimed(store)).claim.import_id == "own"


async def test_only_claims_that_are_valid_are_held(store: Engine) -> None:
    await queued(store, "one", [1, 1])
    mine, other = (await claimed(store)).claim, (await claimed(store)).claim
    assert await hold(store, [mine, other]) == [mine, other]
    await release_shards_of(store, OWNER)
    again = (await claimed(store)).claim
    assert (again.number, again.attempt) == (mine.number, 2)
    assert await hold(store, [mine, other, again]) == [again]
    await shards.cancel_import(store, "one", now=3.0)
    assert await hold(store, [again]) == []


async def test_a_refused_shard_is_the_last_one(store: Engine) -> None:
    await queued(store, "one", [1, 1])
    first = (await claimed(store)).claim
    await refuse(store, first, "here: /photos/0.png: there is no such file")
    numbers = [(await claimed(store)).claim for _ in range(2)]
    assert [(claim.number, claim.refusals) for claim in numbers] == [(1, 0), (0, 1)]
    state = await shards.read_import(store, "one")
    assert state.problem == "here: /photos/0.png: there is no such file"
    await refuse(store, first, "a late one")
    assert (await shards.read_import(store, "one")).problem == state.problem
    assert await claim_next(store, OWNER, without=["one"]) is None


async def test_a_problem_may_name_a_file_that_is_no_text(store: Engine) -> None:
    await queued(store, "one", [1])
    await refuse(store, (await claimed(store)).claim, "/\udce9/\0.png: not found")
    assert (await shards.read_import(store, "one")).problem == r"/\udce9/\0.png: not found"


async def test_blame_adds_up_and_stays_with_the_shard(store: Engine) -> None:
    await queued(store, "one", [3])
    for points in ({1: 1}, {1: 2, 2: 2}):
        claim = (await claimed(store)).claim
        blamed = {ShardImage("one", 0, claim.attempt, place): n for place, n in points.items()}
        stale = {ShardImage("one", 0, claim.attempt - 1, 0): 9}
        assert await release_shards_of(store, OWNER, {**blamed, **stale}) == 1
    assert (await claimed(store)).claim.blamed == {1: 3, 2: 2}


async def test_the_shards_of_dead_nodes_are_released(store: Engine) -> None:
    await queued(store, "one", [1, 1, 1])
    for owner in (OWNER, leases.owner_of(THERE, "model0-2e"), "command-1-2"):
        await claimed(store, owner)
    async with writing(store) as connection:
        for node in (HERE, THERE):
            await leases.hold(connection, node)
        await connection.execute(text(f"UPDATE nodes SET expires_at = 1 WHERE id = '{THERE}'"))
    await leases.requeue_expired(store, HERE)
    assert await owners(store) == [OWNER, None, "command-1-2"]
    await leases.recover(store, "here-0a-2")  # the next run with the same data folder
    assert await owners(store) == [None, None, "command-1-2"]
    await claimed(store)
    await leases.release(store, HERE)
    assert await owners(store) == [None, None, "command-1-2"]


async def test_a_shard_is_finished_once(store: Engine) -> None:
    await queued(store, "one", [2])
    claim = (await claimed(store)).claim
    finished = [
        await shard_claims.finish_shard(store, claim, captioned=1, failed=1, now=3.0)
        for _ in range(2)
    ]
    assert finished == [True, False]
    state = await shards.read_import(store, "one")
    assert (state.status, state.done) == (Status.COMPLETED, 2)
    assert await claim_next(store, OWNER) is None

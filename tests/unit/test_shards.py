"""Imports in the database: shards are claimed as a whole, and each is finished once."""

import pytest

from captiond.errors import ImportNotFound, SettingsError, TaskFinished
from captiond.jobs import Status
from captiond.store import shard_claims, shards
from captiond.store.engine import Engine
from captiond.store.shards import ImportState, NewImport

pytestmark = pytest.mark.anyio
NEW = NewImport("import_1", ("/photos",), "uri", "/results", "jsonl", 2, created_at=1.0)


@pytest.fixture
def ended_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each claim end at once."""
    monkeypatch.setattr(shards, "CLAIM_SECONDS", -1.0)


async def listed(store: Engine, number: int = 3) -> ImportState:
    """Make an import with so many shards."""
    await shards.join_import(store, NEW)
    assert await shards.begin_listing(store, NEW.id, "lister")
    parts = [(f"/photos/{each}.png", f"/photos/{each}b.png") for each in range(number)]
    assert await shards.add_shards(store, NEW.id, "lister", parts)
    await shards.end_listing(store, NEW.id, "lister", now=2.0)
    return await shards.read_import(store, NEW.id)


async def test_each_shard_is_claimed_and_finished_once(store: Engine) -> None:
    state = await listed(store)
    assert (state.status, state.listed, state.images) == (Status.PROCESSING, True, 6)
    claims = [await shard_claims.claim_shard(store, NEW.id, f"owner{each}") for each in range(4)]
    assert [claim and claim.number for claim in claims] == [0, 1, 2, None]
    first = claims[0]
    assert first is not None
    assert first.addresses == ("/photos/0.png", "/photos/0b.png")
    assert await shard_claims.finish_shard(store, first, captioned=2, failed=0, now=3.0)
    assert not await shard_claims.finish_shard(store, first, captioned=2, failed=0, now=3.0)
    for claim in claims[1:3]:
        assert claim is not None
        assert await shard_claims.finish_shard(store, claim, captioned=0, failed=2, now=4.0)
    state = await shards.read_import(store, NEW.id)
    assert (state.status, state.finished_at) == (Status.COMPLETED, 4.0)
    assert (state.captioned, state.failed, state.open_shards, state.done) == (2, 4, 0, 6)
    assert await shard_claims.finished_shards(store, NEW.id, 0, limit=5) == [1, 2]


@pytest.mark.usefixtures("ended_claims")
async def test_a_claim_that_has_ended_goes_to_another_process(store: Engine) -> None:
    await listed(store, 1)
    late = await shard_claims.claim_shard(store, NEW.id, "late")
    other = await shard_claims.claim_shard(store, NEW.id, "other")
    assert late is not None
    assert other is not None
    assert (late.number, other.number, other.attempt) == (0, 0, late.attempt + 1)
    assert not await shard_claims.finish_shard(store, late, captioned=2, failed=0, now=3.0)
    assert await shard_claims.finish_shard(store, other, captioned=2, failed=0, now=3.0)
    assert (await shards.read_import(store, NEW.id)).captioned == 2


async def test_claims_are_extended_and_released(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await listed(store, 1)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "CLAIM_SECONDS", -1.0)
        assert await shard_claims.claim_shard(store, NEW.id, "owner")
    await shard_claims.extend(store, NEW.id, "owner")
    assert await shard_claims.claim_shard(store, NEW.id, "other") is None
    await shard_claims.release_shards(store, NEW.id, "owner")
    assert await shard_claims.claim_shard(store, NEW.id, "other")


async def test_one_process_lists_at_a_time(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await shards.join_import(store, NEW)
    assert await shards.begin_listing(store, NEW.id, "one")
    assert not await shards.begin_listing(store, NEW.id, "two")
    assert not await shards.add_shards(store, NEW.id, "two", [("/a.png",)])
    with monkeypatch.context() as patch:
        patch.setattr(shards, "CLAIM_SECONDS", -1.0)
        assert await shards.add_shards(store, NEW.id, "one", [("/a.png",), ("/b.png",)])
    assert await shards.begin_listing(store, NEW.id, "two")  # the first one is silent
    assert not await shards.add_shards(store, NEW.id, "one", [("/c.png",)])
    assert await shards.add_shards(store, NEW.id, "two", [("/c\udce9.png",)])
    state = await shards.read_import(store, NEW.id)
    assert (state.shards, state.images, state.last_address) == (
        3,
        3,
        shards.mark_of("/c\udce9.png"),
    )
    assert not state.listed


async def test_an_import_without_images_has_failed(store: Engine) -> None:
    await shards.join_import(store, NEW)
    assert await shards.begin_listing(store, NEW.id, "one")
    await shards.end_listing(store, NEW.id, "one", now=2.0)
    assert (await shards.read_import(store, NEW.id)).status is Status.FAILED


async def test_the_output_names_an_import(store: Engine) -> None:
    first = await shards.join_import(store, NEW)
    again = NewImport("import_2", NEW.sources, NEW.column, NEW.output, NEW.form, 9, created_at=5.0)
    assert await shards.join_import(store, again) == first
    other = NewImport("import_2", ("/other",), "uri", NEW.output, "jsonl", 2, created_at=5.0)
    with pytest.raises(SettingsError, match="/results: it belongs to import_1"):
        await shards.join_import(store, other)
    assert [each.id for each in await shards.newest_imports(store, 5)] == ["import_1"]


async def test_a_cancelled_import_has_no_more_claims(store: Engine) -> None:
    await listed(store)
    claim = await shard_claims.claim_shard(store, NEW.id, "owner")
    assert claim is not None
    await shards.cancel_import(store, NEW.id, now=3.0)
    await shards.cancel_import(store, NEW.id, now=4.0)
    assert await shard_claims.claim_shard(store, NEW.id, "owner") is None
    assert not await shard_claims.finish_shard(store, claim, captioned=2, failed=0, now=5.0)
    state = await shards.read_import(store, NEW.id)
    assert (state.status, state.finished_at, state.done) == (Status.CANCELLED, 3.0, 0)
    with pytest.raises(ImportNotFound):
        await shards.cancel_import(store, "import_0", now=3.0)


async def test_a_finished_import_cannot_be_cancelled(store: Engine) -> None:
    await listed(store, 1)
    claim = await shard_claims.claim_shard(store, NEW.id, "owner")
    assert claim is not None
    assert await shard_claims.finish_shard(store, claim, captioned=1, failed=1, now=3.0)
    with pytest.raises(TaskFinished, match="COMPLETED"):
        await shards.cancel_import(store, NEW.id, now=4.0)

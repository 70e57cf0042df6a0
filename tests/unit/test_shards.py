"""Imports in the database: shards are claimed as a whole, and each is finished once."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import text

from captiond.callbacks import DeliveryStatus
from captiond.errors import ImportNotFound, SettingsError, TaskFinished
from captiond.jobs import Status
from captiond.store import consistency, deliveries, expiry, shard_claims, shards
from captiond.store.deliveries import Attempt, Delivery
from captiond.store.engine import Engine, writing
from captiond.store.import_consistency import import_contradictions
from captiond.store.shards import ImportState, NewImport

pytestmark = pytest.mark.anyio
NEW = NewImport("import_1", ("/photos",), "uri", "/results", "jsonl", 2, created_at=1.0)
HOOKED = replace(NEW, callback_url="http://a.example/")


@pytest.fixture(autouse=True)
async def consistent(store: Engine) -> AsyncIterator[None]:
    """Check after each test that nothing contradicts itself."""
    yield
    assert await consistency.contradictions(store) == []


@pytest.fixture
def ended_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each claim end at once."""
    monkeypatch.setattr(shards, "CLAIM_SECONDS", -1.0)


async def listed(store: Engine, number: int = 3, new: NewImport = NEW) -> ImportState:
    """Make an import with so many shards."""
    await shards.join_import(store, new)
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
    assert (state.shards, state.open_shards) == (3, 0)
    with pytest.raises(ImportNotFound, match="import_0; captiond imports list"):
        await shards.cancel_import(store, "import_0", now=3.0)


async def test_a_finished_import_cannot_be_cancelled(store: Engine) -> None:
    await listed(store, 1)
    claim = await shard_claims.claim_shard(store, NEW.id, "owner")
    assert claim is not None
    assert await shard_claims.finish_shard(store, claim, captioned=1, failed=1, now=3.0)
    with pytest.raises(TaskFinished, match="COMPLETED"):
        await shards.cancel_import(store, NEW.id, now=4.0)


# ---------------------------------------------------------------- webhooks


async def due(engine: Engine, now: float) -> list[Delivery]:
    return await deliveries.due(engine, now=now, per_host=2, trying={})


async def finish_next(store: Engine, *, captioned: int, now: float) -> bool:
    claim = await shard_claims.claim_shard(store, NEW.id, "owner")
    assert claim is not None
    failed = len(claim.addresses) - captioned
    return await shard_claims.finish_shard(
        store, claim, captioned=captioned, failed=failed, now=now
    )


async def test_the_last_shard_makes_the_delivery_of_its_import(store: Engine) -> None:
    await listed(store, 2, HOOKED)
    assert await finish_next(store, captioned=2, now=3.0)
    assert await deliveries.of_import(store, NEW.id) == []
    assert await finish_next(store, captioned=0, now=4.0)
    (delivery,) = await due(store, 4.0)
    assert (delivery.import_id, delivery.task_id, delivery.host) == (NEW.id, None, "a.example")
    assert (delivery.status, delivery.attempts, delivery.created_at) == (
        DeliveryStatus.PENDING,
        0,
        4.0,
    )


async def test_each_way_to_finish_an_import_makes_one_delivery(store: Engine) -> None:
    ways = [replace(HOOKED, id=name, output=f"/{name}") for name in ("empty", "cancelled")]
    for new in ways:
        await shards.join_import(store, new)
        assert await shards.begin_listing(store, new.id, "lister")
    for moment in (3.0, 4.0):
        await shards.end_listing(store, "empty", "lister", now=moment)
        await shards.cancel_import(store, "cancelled", now=moment)
    await listed(store, 1)
    await shards.cancel_import(store, NEW.id, now=5.0)
    made = [len(await deliveries.of_import(store, name)) for name in ("empty", "cancelled", NEW.id)]
    assert made == [1, 1, 0]


async def test_one_node_calls_for_an_import(store: Engine, there: Engine) -> None:
    await listed(store, 1, HOOKED)
    await shards.cancel_import(store, NEW.id, now=3.0)
    (delivery,) = await due(store, 3.0)
    if store.database.shared:
        assert await due(there, 3.0) == []
    accepted = Attempt(delivery.id, 1, 3.0, DeliveryStatus.DELIVERED, None, 204, None)
    await deliveries.record(store, [accepted])
    assert await due(there, 99.0) == []
    assert await deliveries.redeliver_import(store, NEW.id, now=100.0) == 1
    assert [each.id for each in await due(there, 100.0)] == [delivery.id]


async def test_the_same_command_can_name_another_callback_url(store: Engine) -> None:
    await listed(store, 2)
    await shards.join_import(store, HOOKED)
    await shards.join_import(store, NEW)
    await shards.cancel_import(store, NEW.id, now=3.0)
    await shards.join_import(store, replace(NEW, callback_url="http://late.example/"))
    assert [each.url for each in await deliveries.of_import(store, NEW.id)] == ["http://a.example/"]


async def test_an_import_stays_until_its_webhook_is_delivered(store: Engine) -> None:
    await listed(store, 1, HOOKED)
    await shards.cancel_import(store, NEW.id, now=3.0)
    assert await expiry.delete_finished_imports(store, before=9.0, shards=9) == 0
    assert await deliveries.give_up(store, begun_before=9.0, error="too old", trying=()) == 1
    assert await expiry.delete_finished_imports(store, before=9.0, shards=9) == 2
    assert await deliveries.of_import(store, NEW.id) == []


# ---------------------------------------------------------------- contradictions


class UndoneError(Exception):
    """A change of the database is rolled back."""


CLAIMED = "claimed by nobody, or have an owner and no claim"
DAMAGE = {
    "UPDATE imports SET shards = 4": "it counts 4 shards, and has 3",
    "UPDATE imports SET open_shards = 1": "it counts 1 open shards, and has 2",
    "UPDATE imports SET images = 7": "it counts 7 images, and its shards have 6",
    "UPDATE imports SET failed = 5": "it counts 6 results of 2 in its finished shards",
    "UPDATE imports SET finished_at = 5": "has a finish time",
    "UPDATE imports SET status = 'PENDING'": "it has shards",
    "UPDATE imports SET status = 'CANCELLED'": "2 of its shards are not finished",
    "UPDATE shards SET number = 5 WHERE number = 2": "the numbers of its shards have gaps",
    "UPDATE shards SET owner = NULL": f"1 of its shards are {CLAIMED}",
    "UPDATE shards SET owner = 'late' WHERE number = 2": f"1 of its shards are {CLAIMED}",
    "UPDATE shards SET addresses = NULL": "2 of its shards have no addresses, or keep them",
    "UPDATE shards SET addresses = 'eA=='": "1 of its shards have no addresses, or keep them",
    "UPDATE shards SET addresses = 'x' WHERE number = 2": "the addresses of 1 of its shards cannot",
}


async def test_what_contradicts_itself_is_found(store: Engine) -> None:
    """Of three shards, one is finished, one is claimed, and one waits."""
    await listed(store, 3, HOOKED)
    assert await finish_next(store, captioned=1, now=3.0)
    assert await shard_claims.claim_shard(store, NEW.id, "owner")
    for damage, problem in DAMAGE.items():
        with suppress(UndoneError):
            async with writing(store) as connection:
                await connection.execute(text(damage))
                (found,) = await import_contradictions(connection)
                raise UndoneError
        assert found.startswith("import import_1 is "), damage
        assert problem in found, damage


async def test_an_import_whose_webhook_is_not_due_is_found(store: Engine) -> None:
    await listed(store, 1, HOOKED)
    await shards.cancel_import(store, NEW.id, now=3.0)
    for damage in ("SET due_at = NULL", "SET import_id = NULL"):
        with suppress(UndoneError):
            async with writing(store) as connection:
                await connection.execute(text(f"UPDATE deliveries {damage}"))
                found = await consistency.imports_without_delivery(connection)
                raise UndoneError
        assert found == ["import import_1 is finished, but its webhook is not due"]

"""Claims have owners, and only those of a dead owner wait again."""

import asyncio
import secrets
from pathlib import Path

import pytest
from sqlalchemy import select, text
from structlog.testing import capture_logs

from captiond.jobs import Captioned, NewImage, NewTask, SpooledImage, Status
from captiond.store import claims, leases, tasks
from captiond.store.engine import Engine, reading, writing
from captiond.store.expressions import clock
from captiond.supervisor import membership
from tests.unit.supervised import membership_of, supervised, until

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
HERE, THERE = "here-1", "there-2"


async def accept(engine: Engine, task_id: str, images: int) -> None:
    files = (NewImage(f"{n}.png", SpooledImage("s", 0, 9, "sha")) for n in range(images))
    await tasks.create_task(engine, NewTask(task_id, "s", tuple(files), 1.0))


async def claim(engine: Engine, node: str, process: str, limit: int) -> list[claims.Claim]:
    owner = leases.owner_of(node, process)
    return (await claims.claim(engine, limit, owner=owner, now=2.0)).claims


async def let_all_leases_expire(engine: Engine) -> None:
    """As they are once the database's clock has gone on, or has been set forward."""
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE nodes SET expires_at = 1"))


async def seconds_left(engine: Engine, node: str) -> float | None:
    async with reading(engine) as connection:
        now = (await connection.execute(select(clock()))).scalar_one()
        query = text("SELECT expires_at FROM nodes WHERE id = :node")
        expires_at = (await connection.execute(query, {"node": node})).scalar_one_or_none()
    return None if expires_at is None else expires_at - now


async def owners(engine: Engine) -> list[str | None]:
    async with reading(engine) as connection:
        return list(
            (await connection.execute(text("SELECT owner FROM images ORDER BY id"))).scalars()
        )


async def test_a_claim_has_an_owner_and_extends_the_lease_of_its_node(store: Engine) -> None:
    await accept(store, "t", 2)
    assert await seconds_left(store, HERE) is None
    await claim(store, HERE, "model0", 1)
    assert await owners(store) == [f"{HERE}/model0", None]
    await let_all_leases_expire(store)
    await claim(store, HERE, "model0", 1)
    left = await seconds_left(store, HERE)
    assert left is not None
    assert 0 < left <= leases.LEASE_SECONDS


async def test_a_dead_process_loses_its_claims_and_no_other_process_does(store: Engine) -> None:
    await accept(store, "t", 4)
    for node in (HERE, THERE):
        for process in ("model0", "model1"):
            await claim(store, node, process, 1)
    owner = leases.owner_of(HERE, "model0")
    assert await claims.requeue(store, owner=owner, now=3.0) == claims.Requeued(1)
    assert await owners(store) == [None, f"{HERE}/model1", f"{THERE}/model0", f"{THERE}/model1"]


async def test_a_node_whose_lease_has_expired_loses_its_claims(store: Engine) -> None:
    await accept(store, "t", 3)
    (mine,) = await claim(store, HERE, "model0", 1)
    lost = await claim(store, THERE, "model0", 2)
    assert await leases.requeue_expired(store, HERE) == 0
    await let_all_leases_expire(store)
    assert await leases.requeue_expired(store, HERE) == 2
    assert await owners(store) == [f"{HERE}/model0", None, None]
    again = await claim(store, HERE, "model0", 9)
    assert [one.attempt for one in again] == [2, 2]
    late = [claims.ImageOutcome(one.image_id, one.attempt, CAPTION) for one in [mine, *lost]]
    assert set(await claims.finish(store, late, now=4.0)) == {mine.image_id}


async def test_a_clock_that_jumps_takes_nothing_from_a_living_node(store: Engine) -> None:
    await accept(store, "t", 1)
    (mine,) = await claim(store, HERE, "model0", 1)
    await let_all_leases_expire(store)
    assert await leases.requeue_expired(store, HERE) == 0
    await leases.renew(store, HERE)
    assert (await seconds_left(store, HERE) or 0) > 0
    result = claims.ImageOutcome(mine.image_id, mine.attempt, CAPTION)
    assert mine.image_id in await claims.finish(store, [result], now=3.0)


@pytest.mark.only_on("sqlite")
async def test_a_start_takes_the_claims_of_every_earlier_life(store: Engine) -> None:
    await accept(store, "t", 4)
    await claim(store, HERE, "model0", 1)
    await claim(store, THERE, "model0", 1)
    await claims.claim(store, 1, owner="model0-of-an-earlier-version", now=2.0)
    await claim(store, "new-3", "model0", 1)
    assert await leases.recover(store, "new-3") == 3
    assert await owners(store) == [None, None, None, "new-3/model0"]
    assert await seconds_left(store, HERE) is None
    assert await seconds_left(store, "new-3") is not None


@pytest.mark.only_on("postgresql")
async def test_a_start_takes_the_claims_of_its_own_folder_and_of_nodes_without_a_lease(
    store: Engine,
) -> None:
    homes = [secrets.token_hex(6) for _ in range(3)]
    here, earlier = (leases.new_node("host", homes[0]) for _ in range(2))
    alive, expired = leases.new_node("host", homes[1]), leases.new_node("host", homes[2])
    await accept(store, "t", 5)
    await claim(store, expired, "model0", 1)
    await let_all_leases_expire(store)
    for node in (alive, earlier, here):
        await claim(store, node, "model0", 1)
    await claim(store, "gone", "model0", 1)
    async with writing(store) as connection:
        await connection.execute(text("DELETE FROM nodes WHERE id = 'gone'"))
    assert await leases.recover(store, here) == 3
    assert await owners(store) == [None, f"{alive}/model0", None, f"{here}/model0", None]
    assert await leases.recover(store, here) == 0


@pytest.mark.only_on("postgresql")
async def test_an_idle_node_of_several_has_a_lease(store: Engine) -> None:
    await leases.renew(store, HERE)
    first = await seconds_left(store, HERE)
    await let_all_leases_expire(store)
    await leases.renew(store, HERE)
    second = await seconds_left(store, HERE)
    assert first is not None
    assert second is not None
    assert min(first, second) > 0


async def test_expired_claims_are_returned_once_however_many_nodes_look(store: Engine) -> None:
    await accept(store, "t", 20)
    await claim(store, "dead", "model0", 20)
    await let_all_leases_expire(store)
    returned = await asyncio.gather(
        *(leases.requeue_expired(store, f"node{number}") for number in range(8))
    )
    assert sum(returned) == 20
    again = await claim(store, HERE, "model0", 20)
    assert [one.attempt for one in again] == [2] * 20


async def test_claims_whose_answer_was_lost_are_released(store: Engine) -> None:
    await accept(store, "t", 4)
    known = await claim(store, HERE, "model0", 1)
    await claim(store, HERE, "model0", 2)
    await claim(store, HERE, "model1", 1)
    owner = leases.owner_of(HERE, "model0")
    ids = [one.image_id for one in known]
    assert await claims.disown(store, owner=owner, known=ids) == 2
    assert await owners(store) == [owner, None, None, f"{HERE}/model1"]
    assert await claims.disown(store, owner=owner, known=ids) == 0
    again = await claim(store, HERE, "model0", 9)
    assert [one.attempt for one in again] == [2, 2]


async def test_a_stop_releases_what_the_node_holds_and_its_lease(store: Engine) -> None:
    await accept(store, "t", 2)
    await claim(store, HERE, "model0", 1)
    await claim(store, THERE, "model0", 1)
    assert await leases.release(store, HERE) == 1
    assert await owners(store) == [None, f"{THERE}/model0"]
    assert await seconds_left(store, HERE) is None


@pytest.mark.only_on("sqlite")
async def test_a_renewal_writes_nothing_while_nothing_is_claimed(
    store: Engine, tmp_path: Path
) -> None:
    log = tmp_path / "captiond.db-wal"
    await accept(store, "t", 1)
    (mine,) = await claim(store, HERE, "model0", 1)
    before = log.stat().st_size
    await leases.renew(store, HERE)
    assert log.stat().st_size > before
    await claims.finish(store, [claims.ImageOutcome(mine.image_id, 1, CAPTION)], now=3.0)
    before = log.stat().st_size
    await leases.renew(store, HERE)
    await leases.requeue_expired(store, HERE)
    assert log.stat().st_size == before


async def test_a_node_that_is_the_beginning_of_another_holds_only_its_own(store: Engine) -> None:
    await accept(store, "t", 2)
    await claim(store, "node", "model0", 1)
    await claim(store, "node-2", "model0", 1)
    assert await leases.release(store, "node") == 1
    assert await owners(store) == [None, "node-2/model0"]


def test_a_node_is_named_for_its_host_and_its_owners_fit_their_column() -> None:
    home = secrets.token_hex(6)
    node = leases.new_node("Photos_of 100%.example.org", home)
    assert node != leases.new_node("Photos_of 100%.example.org", home)
    assert node.startswith(f"photos-of-100-.examp-{home}-")
    assert len(node) <= 48
    assert len(leases.owner_of(node, "model15-0123abcd")) <= 64


NOW = {"sqlite": "strftime('%s', 'now')", "postgresql": "extract(epoch FROM now())"}


async def test_the_clock_is_the_databases(store: Engine) -> None:
    async with reading(store) as connection:
        now = (await connection.execute(select(clock()))).scalar_one()
        query = text(f"SELECT {NOW[store.sql.dialect.name]}")
        assert abs(now - float((await connection.execute(query)).scalar_one())) < 5


async def test_a_supervisor_takes_over_from_the_dead_even_after_an_error(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "RENEWALS", 6000)
    await accept(store, "t", 2)
    await claim(store, HERE, "model0", 1)
    await claim(store, THERE, "model0", 1)
    await let_all_leases_expire(store)
    async with writing(store) as connection:
        await connection.execute(text("ALTER TABLE nodes RENAME TO gone"))
    async with supervised(tmp_path, store) as parts:
        member = membership_of(parts, store, HERE)
        renewing = asyncio.create_task(member.run_renewals())
        with capture_logs() as logged:
            await until(lambda: bool(logged))
        assert logged[0]["event"] == "storage_failing"
        assert member.results_wait
        async with writing(store) as connection:
            await connection.execute(text("ALTER TABLE gone RENAME TO nodes"))

        async def released() -> bool:
            return await owners(store) == [f"{HERE}/model0", None]

        await until(released)
        await until(lambda: not member.results_wait)
    renewing.cancel()
    assert (await seconds_left(store, HERE) or 0) > 0


async def test_a_released_image_waits(store: Engine) -> None:
    await accept(store, "t", 1)
    await claim(store, HERE, "model0", 1)
    await leases.release(store, HERE)
    task = await tasks.read_task(store, "t")
    assert task is not None
    assert [image.status for image in task.images] == [Status.PENDING]

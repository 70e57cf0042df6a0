"""Processes that share one PostgreSQL database: locks of rows, large queues, and wake-ups."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from sqlalchemy import text

from captiond.databaseurl import DatabaseAddress
from captiond.store import claims, consistency, leases, queueview, tasks
from captiond.store.engine import Engine, make_engine, outside_transaction, reading, writing
from captiond.store.locks import lock_tasks
from captiond.store.patience import repeated
from tests.patience import PATIENCE
from tests.postgres import PostgresServer
from tests.unit.claiming import claim, finish, task
from tests.unit.supervised import until

pytestmark = [pytest.mark.anyio, pytest.mark.only_on("postgresql")]


async def test_claims_side_by_side_take_each_image_once_and_keep_the_turns(store: Engine) -> None:
    for number in range(30):
        await tasks.create_task(store, task(f"t{number}", 10))
    claimed: list[int] = []

    async def work(owner: str) -> None:
        while some := await claim(store, 7, owner):
            claimed.extend(each.image_id for each in some)
            await finish(store, some)

    async with asyncio.timeout(PATIENCE):
        while len(claimed) < 300:
            await asyncio.gather(*(work(f"node{number}/m") for number in range(5)))
    assert sorted(claimed) == sorted(set(claimed))
    assert await consistency.contradictions(store) == []
    async with reading(store) as connection:
        query = text("SELECT count(*) FROM images WHERE status = 'COMPLETED'")
        assert (await connection.execute(query)).scalar_one() == 300
        waiting = text("SELECT count(*) FROM turns WHERE waits")
        assert (await connection.execute(waiting)).scalar_one() == 0


async def test_images_that_wait_again_during_a_claim_keep_a_turn(store: Engine) -> None:
    """A claim that takes the last image ends the turn, and a requeue at that moment begins one."""
    for _ in range(20):
        await tasks.create_task(store, task("t", 2))
        await claim(store, 1, "dead/m")
        await asyncio.gather(claims.requeue(store, owner="dead/m", now=3.0), claim(store, 1))
        assert await consistency.contradictions(store) == []
        async with writing(store) as connection:
            await connection.execute(text("DELETE FROM tasks"))
            await connection.execute(text("DELETE FROM turns"))


async def test_results_have_revisions_in_the_order_of_their_commits(store: Engine) -> None:
    await tasks.create_task(store, task("t", 60))
    some = await claim(store, 60)
    parts = [some[first : first + 6] for first in range(0, 60, 6)]
    await asyncio.gather(*(finish(store, part) for part in parts))
    async with reading(store) as connection:
        query = text("SELECT count(DISTINCT revision), count(*) FROM images GROUP BY task_id")
        assert tuple((await connection.execute(query)).one()) == (10, 60)


async def test_cancels_claims_and_results_side_by_side_leave_no_contradiction(
    store: Engine,
) -> None:
    for number in range(12):
        await tasks.create_task(store, task(f"t{number}", 8))

    async def work() -> None:
        while some := await claim(store, 5):
            await finish(store, some)

    async def cancel() -> None:
        for number in range(0, 12, 2):
            await tasks.cancel(store, f"t{number}", now=4.0)

    await asyncio.gather(work(), work(), cancel())
    await work()
    assert await consistency.contradictions(store) == []


@asynccontextmanager
async def locked(store: Engine, task_id: str) -> AsyncIterator[None]:
    """Lock a task within the block, as a transaction that stores results does."""
    async with writing(store) as connection:
        await lock_tasks(connection, [task_id])
        yield


async def test_a_claim_takes_images_of_other_tasks_than_those_that_are_locked(
    store: Engine,
) -> None:
    """Those keep their turns, and come next."""
    for name in ("busy", "free"):
        await tasks.create_task(store, task(name, 3))
    async with asyncio.timeout(PATIENCE), locked(store, "busy"):
        some = await claim(store, 3)
        assert [each.task_id for each in some] == ["free"] * 3
        await finish(store, some)
    assert [each.task_id for each in await claim(store, 3)] == ["busy"] * 3
    assert await consistency.contradictions(store) == []


async def test_a_claim_says_whether_images_may_wait_that_it_left_out(store: Engine) -> None:
    for name in ("busy", "free"):
        await tasks.create_task(store, task(name, 2))
    async with asyncio.timeout(PATIENCE), locked(store, "busy"):
        claimed = await claims.claim(store, 9, owner="node/m", now=2.0)
        assert ([each.task_id for each in claimed.claims], claimed.busy) == (["free"] * 2, True)
    claimed = await claims.claim(store, 9, owner="node/m", now=2.0)
    assert ([each.task_id for each in claimed.claims], claimed.busy) == (["busy"] * 2, False)


async def test_a_claim_waits_for_a_locked_task_if_no_other_one_waits(store: Engine) -> None:
    await tasks.create_task(store, task("busy", 2))
    async with asyncio.timeout(PATIENCE):
        async with locked(store, "busy"):
            claiming = asyncio.ensure_future(claims.claim(store, 9, owner="node/m", now=2.0))
            await until_a_lock_is_waited_for(store)
        claimed = await claiming
    assert (len(claimed.claims), claimed.busy) == (2, False)


async def until_a_lock_is_waited_for(store: Engine) -> None:
    query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")

    async def is_waited_for() -> bool:
        async with outside_transaction(store) as connection:
            return bool((await connection.execute(query)).scalar_one())

    await until(is_waited_for)


async def test_the_same_key_in_two_processes_is_one_task(store_address: DatabaseAddress) -> None:
    engines = [make_engine(store_address) for _ in range(4)]
    ids = await asyncio.gather(
        *(
            tasks.create_task(engine, task(f"t{number}", 2, key="k"))
            for number, engine in enumerate(engines)
        )
    )
    assert len(set(ids)) == 1
    assert (await queueview.backlog(engines[0])).images == 2
    for engine in engines:
        await engine.dispose()


async def test_a_deadlock_is_repeated(store: Engine) -> None:
    both_have_one, tries = asyncio.Barrier(2), list[str]()

    @repeated
    async def lock(first: str, second: str) -> None:
        tries.append(first)
        async with writing(store) as connection:
            await leases.hold(connection, first)
            if len(tries) <= 2:
                await both_have_one.wait()
            await leases.hold(connection, second)

    for node in ("a", "b"):
        await leases.renew(store, node)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(lock("a", "b"), lock("b", "a"))
    # On a busy machine, the one that begins again may meet the other one a second time.
    assert len(tries) >= 3


# ---------------------------------------------------------------- large queues


async def rows_read(store: Engine, work: Awaitable[object], server: PostgresServer) -> int:
    """Return how many rows and entries of indexes the server reads during some work."""
    query = text(
        "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables) "
        "+ (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)"
    )

    async def so_far() -> int:
        async with outside_transaction(store) as connection:
            await connection.execute(text("SELECT pg_stat_force_next_flush()"))
        async with outside_transaction(store) as connection:
            await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
            return int((await connection.execute(query)).scalar_one())

    before = await so_far()
    await work
    return await so_far() - before


async def test_a_claim_and_its_results_read_few_rows_however_many_wait(
    store_address: DatabaseAddress, postgres: PostgresServer
) -> None:
    store = make_engine(replace(store_address, connections=1))  # its figures are one backend's
    await tasks.create_task(store, task("large", 10_000))
    for first in range(0, 10_000, 1000):  # all at once would take a busy machine too long
        numbers = range(first, first + 1000)
        await tasks.create_tasks(store, [task(f"small{number}", 1) for number in numbers])
    async with outside_transaction(store) as connection:
        await connection.execute(text("ANALYZE"))
    some: list[claims.Claim] = []

    async def take() -> None:
        some.extend(await claim(store, 32))

    for _ in range(8):  # a plan for all values is made after five
        some.clear()
        assert await rows_read(store, take(), postgres) < 3000
        assert await rows_read(store, finish(store, some), postgres) < 3000
    assert await rows_read(store, tasks.cancel(store, "small9999", now=4.0), postgres) < 3000
    assert await rows_read(store, leases.renew(store, "node"), postgres) < 3000
    await store.dispose()


# ---------------------------------------------------------------- wake-ups


async def test_a_process_is_woken_by_another_one(store_address: DatabaseAddress) -> None:
    here, there = make_engine(store_address), make_engine(store_address)
    wakeups = here.wakeups()
    async with asyncio.timeout(PATIENCE):
        await anext(wakeups)  # of the connection itself
        following = asyncio.ensure_future(anext(wakeups))
        await tasks.create_task(there, task("t", 1))
        await following
        following = asyncio.ensure_future(anext(wakeups))
        await claim(there, 1, "node/m")
        await claims.requeue(there, owner="node/m", now=3.0)
        await following
        following = asyncio.ensure_future(anext(wakeups))
        kill = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        async with outside_transaction(there) as connection:
            await connection.execute(kill)
        await following  # it listens again
    await wakeups.aclose()  # type: ignore[attr-defined]
    for engine in (here, there):
        await engine.dispose()

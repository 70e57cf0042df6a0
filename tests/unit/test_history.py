"""Results in the order of storing: from each of them on, the others follow exactly once each."""

from typing import Any

import pytest
from sqlalchemy import event

from captiond.store import tasks
from captiond.store.engine import Engine, reading
from captiond.store.history import START, Place, results_after, results_from
from captiond.store.snapshots import read_state
from tests.unit.filling import RETRYABLE, add_task, claimed, finish, run_task

pytestmark = pytest.mark.anyio


async def places(store: Engine, place: Place = START, *, limit: int = 100) -> list[Place]:
    """Return the places of all results that follow, read in parts of `limit`."""
    found: list[Place] = []
    while rows := await results_after(store, "t", place, limit=limit):
        found += [Place(row[0], row[1]) for row in rows]
        place = found[-1]
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_each_result_follows_once_wherever_a_client_goes_on(
    store: Engine, limit: int
) -> None:
    await add_task(store, "t", 8, refused=[1, 6])
    first, second, third = await claimed(store, 3)
    known = await places(store)
    assert known == [(0, 1), (0, 6)]
    for outcomes in ([third], [first, second]):  # not in upload order
        await finish(store, outcomes)
        seen = await places(store, known[-1], limit=limit)
        assert {place.revision for place in seen} == {seen[0].revision}
        known += seen
    await run_task(store, 3)
    known += await places(store, known[-1], limit=limit)
    assert [place.position for place in known] == [1, 6, 3, 0, 2, 4, 5, 7]
    assert known == sorted(known)
    for number, place in enumerate(known):
        assert await places(store, place, limit=limit) == known[number + 1 :]


async def test_the_result_of_a_retry_is_a_new_one(store: Engine) -> None:
    await add_task(store, "t", 2)
    await run_task(store, 1)
    await run_task(store, 1, RETRYABLE)
    before = await places(store)
    await tasks.retry(store, "t")
    assert await places(store) == before[:1]
    await run_task(store, 1)
    (again,) = await places(store, before[-1])
    assert again.position == before[-1].position
    assert again > before[-1]


async def test_results_of_a_revision_stay_the_same_while_the_task_goes_on(store: Engine) -> None:
    await add_task(store, "t", 6, refused=[5])
    await run_task(store, 2)
    state = await read_state(store, "t")
    assert state is not None

    async def positions() -> list[int]:
        rows = await results_from(store, "t", 0, revision=state.revision, limit=100)
        return [row[1] for row in rows]

    assert await positions() == [0, 1, 5]
    await run_task(store, 2)
    assert await positions() == [0, 1, 5]


@pytest.mark.only_on("sqlite")
async def test_what_follows_is_found_by_an_index(store: Engine) -> None:
    """Otherwise each new result of a large task would cost a look at all its images."""
    statements: list[tuple[str, Any]] = []
    event.listen(
        store.sql.sync_engine, "before_cursor_execute", lambda *all: statements.append(all[2:4])
    )
    await results_after(store, "t", Place(3, 1), limit=5)
    await results_from(store, "t", 7, revision=9, limit=5)
    selects = [each for each in statements if each[0].startswith("SELECT")]
    assert len(selects) == 2
    used = []
    for statement, parameters in selects:
        async with reading(store) as connection:
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            (step,) = [row[-1] for row in plan]
        used.append(step.partition("USING INDEX ")[2].partition(" ")[0])
    assert used == ["ix_images_task_id_revision_position", "sqlite_autoindex_images_1"]

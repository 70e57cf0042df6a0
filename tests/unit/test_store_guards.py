"""Changes of state: each statement says when it applies, and a claim is whole or not at all."""

import json
import re
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from captiond.errors import NothingToRetry, StoreRefused
from captiond.jobs import Captioned, NewImage, NewTask, Refused, SpooledImage, Status
from captiond.store import claims, consistency, expiry, finishing, leases, tasks
from captiond.store.claims import FINISH, ImageOutcome, finished_row
from captiond.store.engine import Engine, reading, writing
from captiond.store.transitions import image_moves

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
POISON = Refused("died", "poison_image")
OWNER = "node/model0"


async def accept(engine: Engine, task_id: str, images: int) -> None:
    files = (NewImage(f"{n}.png", SpooledImage("s", 0, 9, "sha")) for n in range(images))
    await tasks.create_task(engine, NewTask(task_id, f"spool-{task_id}", tuple(files), 1.0))


async def claim(engine: Engine, limit: int) -> list[claims.Claim]:
    return (await claims.claim(engine, limit, owner=OWNER, now=2.0)).claims


async def finish(engine: Engine, *claimed: claims.Claim, outcome: Captioned | Refused) -> set[int]:
    results = [ImageOutcome(one.image_id, one.attempt, outcome) for one in claimed]
    return set(await claims.finish(engine, results, now=3.0))


async def rows(engine: Engine, query: str) -> list[tuple[object, ...]]:
    async with reading(engine) as connection:
        return [tuple(row) for row in (await connection.execute(text(query))).all()]


async def change(engine: Engine, statement: str) -> None:
    async with writing(engine) as connection:
        await connection.execute(text(statement))


# ---------------------------------------------------------------- guards


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE images SET attempt = attempt + 1",
        "UPDATE images SET status = 'PENDING', owner = NULL",
        "UPDATE images SET status = 'CANCELLED'",
        "UPDATE images SET status = 'COMPLETED', result = 'of another'",
    ],
)
async def test_the_statement_itself_drops_a_result_that_comes_late(
    store: Engine, meanwhile: str
) -> None:
    await accept(store, "t", 1)
    (claimed,) = await claim(store, 1)
    await change(store, meanwhile)
    before = await rows(store, "SELECT * FROM images")
    row = finished_row(ImageOutcome(claimed.image_id, claimed.attempt, CAPTION))
    async with writing(store) as connection:
        outcomes = json.dumps([row])
        assert (await connection.execute(FINISH, {"outcomes": outcomes})).all() == []
    assert await rows(store, "SELECT * FROM images") == before


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements that run in the block."""
    seen: list[str] = []

    def note(*arguments: object) -> None:
        seen.append(" ".join(str(arguments[2]).split()))

    event.listen(engine.sql.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine.sql.sync_engine, "before_cursor_execute", note)


async def test_every_update_of_a_state_names_the_states_that_it_may_follow(store: Engine) -> None:
    with statements(store) as seen:
        for task_id in ("finished", "cancelled"):
            await accept(store, task_id, 2)
        await finish(store, *await claim(store, 2), outcome=POISON)
        await tasks.retry(store, "finished")
        (first, _) = await claim(store, 2)
        await claims.requeue(store, owner=OWNER, now=3.0, blamed={first.image_id: 99})
        await claim(store, 1)
        await tasks.cancel(store, "cancelled", now=4.0)
        await leases.release(store, "node")
    updates = [
        query for query in seen if re.match("UPDATE (images|tasks) SET (.*, )?status", query)
    ]
    assert len({re.sub(r"\?(, \?)*", "?", query) for query in updates}) >= 9
    for query in updates:
        unwrapped = re.sub(r"\(\+ (images|tasks)\.status\)", r"\1.status", query)
        guard = without_parentheses(unwrapped).rpartition(" WHERE ")[2]
        assert re.search(r"(images|tasks)\.status (=|IN)", guard), query


def without_parentheses(statement: str) -> str:
    """Return a statement without its subqueries."""
    while (shorter := re.sub(r"\([^()]*\)", "", statement)) != statement:
        statement = shorter
    return statement


async def test_a_task_with_open_images_is_not_finished_by_mistake(store: Engine) -> None:
    await accept(store, "t", 2)
    await finish(store, *await claim(store, 1), outcome=CAPTION)
    async with writing(store) as connection:
        assert await finishing.finish_tasks(connection, ["t"], 9.0) == {}
    task = await tasks.read_task(store, "t")
    assert task is not None
    assert (task.status, task.finished_at) == (Status.PROCESSING, None)


async def test_a_task_that_is_open_is_not_reopened(store: Engine) -> None:
    await accept(store, "t", 2)
    await finish(store, *await claim(store, 1), outcome=POISON)
    before = await rows(store, "SELECT status, result FROM images")
    with pytest.raises(NothingToRetry):
        await tasks.retry(store, "t")
    assert await rows(store, "SELECT status, result FROM images") == before


def test_a_guard_for_an_illegal_transition_is_a_bug() -> None:
    with pytest.raises(ValueError, match="CANCELLED cannot become PENDING"):
        image_moves(Status.CANCELLED, Status.PENDING)


# ---------------------------------------------------------------- one transaction


AS_IF_FULL = {
    "sqlite": (
        "CREATE TRIGGER full_disk BEFORE UPDATE OF result ON images "
        "BEGIN SELECT RAISE(ABORT, 'as if the disk were full'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'as if the disk were full'; END $$",
        "CREATE TRIGGER full_disk BEFORE UPDATE OF result ON images "
        "FOR EACH ROW EXECUTE FUNCTION fail()",
    ),
}
DROP_FULL = {
    "sqlite": "DROP TRIGGER full_disk",
    "postgresql": "DROP TRIGGER full_disk ON images",
}


async def test_a_claim_that_cannot_be_written_leaves_nothing_claimed(store: Engine) -> None:
    """The options of one task are damaged, and its images cannot be set to FAILED just now."""
    await accept(store, "bad", 1)
    await accept(store, "good", 1)
    await change(store, "UPDATE tasks SET options = '{' WHERE id = 'bad'")
    for statement in AS_IF_FULL[store.sql.dialect.name]:
        await change(store, statement)
    with pytest.raises(StoreRefused, match="as if the disk were full"):
        await claim(store, 9)
    assert await rows(store, "SELECT DISTINCT status, attempt, owner FROM images") == [
        ("PENDING", 0, None)
    ]
    await change(store, DROP_FULL[store.sql.dialect.name])
    assert [one.image.file for one in await claim(store, 9)] == ["spool-good"]
    assert await rows(store, "SELECT status, open_images FROM tasks ORDER BY id") == [
        ("FAILED", 0),
        ("PROCESSING", 1),
    ]


# ---------------------------------------------------------------- counters


async def test_the_number_of_open_images_is_right_after_each_change(store: Engine) -> None:
    refused = NewImage("x", None, Refused("no image", "not_an_image"))
    kept = NewImage("y", SpooledImage("s", 0, 9, "sha"))
    await tasks.create_task(store, NewTask("t", "s", (refused, *[kept] * 5), 1.0))
    await accept(store, "u", 3)
    seen = [await open_images(store)]
    claimed = await claim(store, 9)
    first, second, third, *_ = [one for one in claimed if one.image.file == "s"]
    await finish(store, first, outcome=CAPTION)
    await finish(store, first, outcome=CAPTION)
    seen.append(await open_images(store))
    await claims.requeue(store, owner=OWNER, now=3.0, blamed={second.image_id: 99})
    seen.append(await open_images(store))
    again = [one for one in await claim(store, 9) if one.image.file == "s"]
    await finish(store, *again, outcome=POISON)
    await claims.requeue(store, owner=OWNER, now=3.0)
    seen.append(await open_images(store))
    assert await tasks.retry(store, "t") == 4
    await tasks.cancel(store, "u", now=4.0)
    seen.append(await open_images(store))
    assert seen == [(5, 3), (4, 3), (3, 3), (0, 3), (4, 0)]
    assert third.attempt == 1
    assert await consistency.contradictions(store) == []
    await change(store, "UPDATE tasks SET open_images = 7 WHERE id = 't'")
    (problem,) = await consistency.contradictions(store)
    assert problem == "task t is PENDING, but it counts 7 open images, and has 4"


async def open_images(engine: Engine) -> tuple[object, ...]:
    counted = await rows(engine, "SELECT open_images FROM tasks ORDER BY id")
    query = "SELECT count(CASE WHEN status IN ('PENDING', 'PROCESSING') THEN 1 END) FROM images "
    assert counted == await rows(engine, f"{query} GROUP BY task_id ORDER BY task_id")
    return tuple(number for (number,) in counted)


async def instructions_of(engine: Engine, work: Awaitable[object]) -> int:
    """Return how many instructions SQLite runs during some work on its one connection."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    async with engine.sql.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.set_progress_handler(step, 1)
    await work
    async with engine.sql.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.set_progress_handler(None, 1)
    return count


async def instructions_of_a_batch(engine: Engine, task_id: str, images: int) -> int:
    """Return the instructions to store the results of 32 of a task's images."""
    await accept(engine, task_id, images)
    batch = await claim(engine, 32)
    return await instructions_of(engine, finish(engine, *batch, outcome=CAPTION))


@pytest.mark.only_on("sqlite")
async def test_a_batch_of_a_large_task_costs_as_much_as_one_of_a_small_task(store: Engine) -> None:
    small = await instructions_of_a_batch(store, "small", 100)
    await tasks.cancel(store, "small", now=3.0)
    large = await instructions_of_a_batch(store, "large", 10_000)
    assert small > 32, "the instructions are counted"
    assert large < 1.2 * small


@pytest.mark.only_on("sqlite")
async def test_a_claim_costs_the_same_however_many_images_and_tasks_wait(store: Engine) -> None:
    for number in range(40):
        await accept(store, f"first{number}", 1)
    few = await instructions_of(store, claim(store, 8))
    for number in range(1000):
        await accept(store, f"more{number}", 1)
    await accept(store, "large", 10_000)
    many = await instructions_of(store, claim(store, 8))
    assert few > 8, "the instructions are counted"
    assert many < 1.2 * few
    assert len(await claim(store, 99_999)) == 40 + 1000 + 10_000 - 16


@pytest.mark.only_on("sqlite")
async def test_to_delete_a_task_costs_the_same_however_many_webhooks_wait(store: Engine) -> None:
    async def instructions(task_id: str, webhooks: int) -> int:
        refused = (NewImage("x", None, Refused("no image", "not_an_image")),)
        await tasks.create_task(store, NewTask(task_id, "s", refused, 1.0))
        for number in range(webhooks):
            owing = NewTask(f"{task_id}-{number}", "s", refused, 9.0, callback_url="http://a/")
            await tasks.create_task(store, owing)
        return await instructions_of(store, expiry.delete_finished(store, before=5.0, images=1))

    few = await instructions("first", 1)
    assert few > 4, "the instructions are counted"
    assert await instructions("second", 200) < 1.2 * few


async def instructions_to_finish(engine: Engine, task_id: str, images: int) -> int:
    """Return the instructions to store the results of all images of a new task at once."""
    await accept(engine, task_id, images)
    batch = await claim(engine, images)
    return await instructions_of(engine, finish(engine, *batch, outcome=CAPTION))


@pytest.mark.only_on("sqlite")
async def test_a_result_costs_the_same_however_many_are_stored_together(store: Engine) -> None:
    few = await instructions_to_finish(store, "few", 50)
    many = await instructions_to_finish(store, "many", 500)
    assert few > 50, "the instructions are counted"
    assert many < 1.2 * 10 * few


async def instructions_to_fail_and_retry(engine: Engine, task_id: str) -> list[int]:
    """Return the instructions to finish a task whose images all fail, and those to retry it."""
    await accept(engine, task_id, 4)
    batch = await claim(engine, 4)
    failed = Refused("no memory", "out_of_memory")
    works: list[Awaitable[object]] = [finish(engine, *batch, outcome=failed)]
    works.append(tasks.retry(engine, task_id))
    return [await instructions_of(engine, work) for work in works]


@pytest.mark.only_on("sqlite")
async def test_to_finish_and_to_retry_a_task_costs_the_same_however_many_images_others_have(
    store: Engine,
) -> None:
    few = await instructions_to_fail_and_retry(store, "first")
    await tasks.cancel(store, "first", now=3.0)
    await accept(store, "others", 1000)
    await finish(store, *(await claim(store, 1000))[:500], outcome=CAPTION)
    await change(store, "UPDATE images SET status = 'FAILED' WHERE status = 'PROCESSING'")
    many = await instructions_to_fail_and_retry(store, "second")
    assert min(few) > 4, "the instructions are counted"
    assert all(after < 1.2 * before for before, after in zip(few, many, strict=True)), (few, many)

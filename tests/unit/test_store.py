"""Tasks in a real database: they are claimed, finished, cancelled, retried and cached."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from captiond.deaths import BLAME_LIMIT, Death, blame
from captiond.errors import (
    DatabaseUnusable,
    KeyReused,
    TaskFinished,
)
from captiond.jobs import (
    DEFAULT_OPTIONS,
    Captioned,
    FinishedTask,
    NewImage,
    NewTask,
    Options,
    Refused,
    SpooledImage,
    Status,
    TaskView,
)
from captiond.store import captions, claims, leases, queueview, sqlite_file, tasks
from captiond.store.columns import with_conditions
from captiond.store.engine import Engine, make_engine, outside_transaction, reading, writing
from captiond.store.maintenance import checkpoint
from captiond.store.migrate import prepare_database
from captiond.store.sqlite_file import BUSY_SECONDS
from captiond.store.tables import Table
from captiond.tags import Category, Kind, Tag, TagOptions

pytestmark = pytest.mark.anyio
HOME = secrets.token_hex(6)
CAT = Tag("cat", "cat", Category.ANIMAL, Kind.NOUN, 2, 5)
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3, tag_details=(CAT,))
OPTIONS = Options(
    language="en",
    tags=TagOptions(kinds=(Kind.NOUN,), categories=(Category.FOOD,), deny=("x*",), max_number=3),
)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Engine]:
    engine = make_engine(path)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
def engine(store: Engine) -> Engine:
    return store


def task(task_id: str, count: int, *, key: str | None = None, digest: str | None = None) -> NewTask:
    images = tuple(
        NewImage(f"{n}.png", SpooledImage(f"spool-{task_id}", 9 * n, 9, "sha"))
        for n in range(count)
    )
    return NewTask(task_id, f"spool-{task_id}", images, 1.0, key, digest)


async def read(engine: Engine, task_id: str) -> TaskView:
    found = await tasks.read_task(engine, task_id)
    assert found is not None
    return found


# An index that only the other database has.
OF_THE_OTHER = {"sqlite": "ix_tasks_client", "postgresql": "ix_tasks_client_open_images_size"}


async def test_the_migrations_make_exactly_the_tables(engine: Engine) -> None:
    def differences(connection: Connection) -> list[object]:
        other = OF_THE_OTHER[connection.dialect.name]
        options = {"include_object": lambda _object, name, *_: name != other}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, with_conditions(Table.metadata)))

    async with engine.sql.connect() as connection:
        assert await connection.run_sync(differences) == []


@pytest.mark.only_on("sqlite")
async def test_a_commit_is_durable_and_keys_are_enforced(engine: Engine) -> None:
    async with engine.sql.connect() as connection:
        for pragma, value in [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]:
            assert (await connection.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value


async def test_images_are_claimed_in_order_and_the_last_one_finishes_the_task(
    engine: Engine,
) -> None:
    await tasks.create_task(engine, task("t", 3))
    first = (await claims.claim(engine, 2, owner="m", now=2.0)).claims
    assert [(claim.image.file, claim.image.offset, claim.image.size) for claim in first] == [
        ("spool-t", 0, 9),
        ("spool-t", 9, 9),
    ]
    results = [claims.ImageOutcome(claim.image_id, 1, CAPTION) for claim in first]
    taken = await claims.finish(engine, results, now=3.0)
    assert taken == {claim.image_id: None for claim in first}
    half = await read(engine, "t")
    assert (half.status, half.started_at, half.finished_at) == (Status.PROCESSING, 2.0, None)
    assert await tasks.needed_spool_names(engine) == {"spool-t"}
    (last,) = (await claims.claim(engine, 9, owner="m", now=4.0)).claims
    refused = Refused("damaged", "corrupt_image")
    ended = await claims.finish(engine, [claims.ImageOutcome(last.image_id, 1, refused)], now=5.0)
    assert ended == {last.image_id: FinishedTask(keeps_file=False)}
    whole = await read(engine, "t")
    assert (whole.status, whole.started_at, whole.finished_at) == (Status.COMPLETED, 2.0, 5.0)
    assert [image.outcome for image in whole.images] == [CAPTION, CAPTION, refused]
    assert await tasks.needed_spool_names(engine) == set()


async def test_a_late_result_of_a_lost_attempt_is_dropped(engine: Engine) -> None:
    await tasks.create_task(engine, task("t", 1))
    (lost,) = (await claims.claim(engine, 1, owner="dead", now=2.0)).claims
    assert await claims.requeue(engine, now=2.0, owner="another") == claims.Requeued(0)
    assert await claims.requeue(engine, now=2.0, owner="dead") == claims.Requeued(1)
    (again,) = (await claims.claim(engine, 1, owner="alive", now=3.0)).claims
    assert again.attempt == lost.attempt + 1
    late = claims.ImageOutcome(lost.image_id, lost.attempt, CAPTION)
    assert await claims.finish(engine, [late], now=4.0) == {}
    mine = claims.ImageOutcome(again.image_id, again.attempt, CAPTION)
    assert await claims.finish(engine, [mine], now=5.0) == {
        again.image_id: FinishedTask(keeps_file=False)
    }
    assert await claims.finish(engine, [mine], now=6.0) == {}


async def test_no_two_claims_take_the_same_image(engine: Engine) -> None:
    await tasks.create_task(engine, task("t", 200))
    claimed: list[int] = []

    async def take(owner: str) -> None:
        while taken := (await claims.claim(engine, 7, owner=owner, now=2.0)).claims:
            claimed.extend(claim.image_id for claim in taken)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(take, f"m{number}")
    assert sorted(claimed) == sorted(set(claimed))
    assert len(claimed) == 200


async def test_a_clock_that_jumps_a_day_changes_no_order(engine: Engine) -> None:
    day = 86_400.0
    await tasks.create_task(engine, replace(task("late", 2), created_at=5 * day))
    await tasks.create_task(engine, replace(task("early", 2), created_at=4 * day))
    first = (await claims.claim(engine, 2, owner="a", now=3 * day)).claims
    second = (await claims.claim(engine, 2, owner="b", now=6 * day)).claims
    assert [claim.image.file for claim in first] == ["spool-late"] * 2
    assert [claim.image.file for claim in second] == ["spool-early"] * 2
    assert (await claims.claim(engine, 9, owner="c", now=9 * day)).claims == []


async def test_a_task_whose_files_were_all_refused_is_finished(engine: Engine) -> None:
    refused = NewImage("x", None, Refused("no image", "not_an_image"))
    await tasks.create_task(engine, NewTask("t", None, (refused, refused), 1.0))
    ended = await read(engine, "t")
    assert (ended.status, ended.finished_at) == (Status.FAILED, 1.0)
    assert (await claims.claim(engine, 9, owner="m", now=2.0)).claims == []
    assert await tasks.needed_spool_names(engine) == set()


# ---------------------------------------------------------------- blame


async def test_blame_adds_up_to_poison_and_the_other_images_go_on(engine: Engine) -> None:
    await tasks.create_task(engine, task("t", 2))
    points = [blame(Death.CRASHED, 2), blame(Death.CRASHED, 1), blame(Death.CRASHED, 1)]
    for round_, more in enumerate(points):
        guilty, _ = (await claims.claim(engine, 2, owner="m", now=2.0)).claims
        assert guilty.blame == sum(points[:round_])
        blamed = {guilty.image_id: more}
        requeued = await claims.requeue(engine, now=3.0, owner="m", blamed=blamed)
        poison = [outcome.code for outcome in requeued.refused]
        assert (requeued.waiting, poison) == ((1, ["poison_image"]) if round_ == 2 else (2, []))
    (innocent,) = (await claims.claim(engine, 2, owner="m", now=4.0)).claims
    assert innocent.blame == 0
    await claims.finish(
        engine, [claims.ImageOutcome(innocent.image_id, innocent.attempt, CAPTION)], now=5.0
    )
    ended = await read(engine, "t")
    assert ended.status is Status.COMPLETED
    first, second = ended.images
    assert isinstance(first.outcome, Refused)
    assert first.outcome.code == "poison_image"
    assert second.outcome == CAPTION


async def test_an_image_that_is_poison_finishes_its_task(engine: Engine) -> None:
    await tasks.create_task(engine, task("t", 1))
    (guilty,) = (await claims.claim(engine, 1, owner="m", now=2.0)).claims
    await claims.requeue(engine, now=3.0, owner="m", blamed={guilty.image_id: BLAME_LIMIT})
    ended = await read(engine, "t")
    assert (ended.status, ended.finished_at) == (Status.FAILED, 3.0)


async def test_a_service_that_dies_again_and_again_blames_no_image(engine: Engine) -> None:
    await tasks.create_task(engine, task("t", 1))
    nodes = [leases.new_node("host", HOME) for _ in range(21)]
    for number in range(20):
        await claims.claim(engine, 1, owner=f"{nodes[number]}/m", now=2.0)
        assert await leases.recover(engine, nodes[number + 1]) == 1
    (claim,) = (await claims.claim(engine, 1, owner="m", now=4.0)).claims
    assert (claim.attempt, claim.blame) == (21, 0)


# ---------------------------------------------------------------- cancel and idempotency


async def test_cancel_stops_what_has_no_result_and_drops_late_results(engine: Engine) -> None:
    await tasks.create_task(engine, task("t", 3))
    done, running = (await claims.claim(engine, 2, owner="m", now=2.0)).claims
    await claims.finish(engine, [claims.ImageOutcome(done.image_id, 1, CAPTION)], now=3.0)
    cancelled = await tasks.cancel(engine, "t", now=4.0)
    assert cancelled == tasks.CancelledTask((running.image_id,), "spool-t")
    late = claims.ImageOutcome(running.image_id, 1, CAPTION)
    assert await claims.finish(engine, [late], now=5.0) == {}
    assert await leases.recover(engine, "next") == 0
    assert (await claims.claim(engine, 9, owner="m", now=6.0)).claims == []
    ended = await read(engine, "t")
    assert (ended.status, ended.finished_at) == (Status.CANCELLED, 4.0)
    assert [image.status for image in ended.images] == [
        Status.COMPLETED,
        Status.CANCELLED,
        Status.CANCELLED,
    ]


async def test_a_second_cancel_changes_nothing_and_a_finished_task_refuses(engine: Engine) -> None:
    await tasks.create_task(engine, task("t", 1))
    await tasks.cancel(engine, "t", now=2.0)
    assert await tasks.cancel(engine, "t", now=3.0) == tasks.CancelledTask((), None)
    assert (await read(engine, "t")).finished_at == 2.0
    assert await tasks.cancel(engine, "unknown", now=3.0) is None
    await tasks.create_task(engine, task("u", 1))
    (claim,) = (await claims.claim(engine, 1, owner="m", now=2.0)).claims
    await claims.finish(engine, [claims.ImageOutcome(claim.image_id, 1, CAPTION)], now=3.0)
    with pytest.raises(TaskFinished):
        await tasks.cancel(engine, "u", now=4.0)


async def test_the_same_key_is_the_same_task_however_many_come_at_once(engine: Engine) -> None:
    found: list[str] = []

    async def send(number: int) -> None:
        found.append(await tasks.create_task(engine, task(f"t{number}", 2, key="k", digest="d")))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(send, number)
    assert len(set(found)) == 1
    assert (await queueview.backlog(engine)).images == 2
    with pytest.raises(KeyReused):
        await tasks.create_task(engine, task("other", 2, key="k", digest="e"))


async def test_a_claim_has_the_options_of_its_request(engine: Engine) -> None:
    await tasks.create_task(engine, replace(task("asks", 1), options=OPTIONS))
    await tasks.create_task(engine, task("asks nothing", 1))
    taken = (await claims.claim(engine, 9, owner="m", now=2.0)).claims
    assert [claim.options for claim in taken] == [OPTIONS, DEFAULT_OPTIONS]
    async with engine.sql.connect() as connection:
        query = text("SELECT count(*) FROM tasks WHERE options IS NULL")
        assert (await connection.execute(query)).scalar_one() == 1


async def test_a_result_of_an_earlier_version_has_no_details(engine: Engine) -> None:
    await tasks.create_task(engine, task("t", 1))
    async with writing(engine) as connection:
        old = '{"caption": "a cat", "tags": ["cat"], "model": "m", "width": 4, "height": 3}'
        await connection.execute(
            text("UPDATE images SET status = 'COMPLETED', result = :old"), {"old": old}
        )
    found = await read(engine, "t")
    assert found.images[0].outcome == Captioned("a cat", ("cat",), "m", 4, 3)


async def test_the_cache_keeps_the_first_caption_of_a_key(engine: Engine) -> None:
    key = captions.cache_key("sha", "recipe")
    assert key != captions.cache_key("sha", "another recipe")
    assert await captions.look_up(engine, [key]) == [None]
    await captions.remember(engine, {key: CAPTION}, now=1.0)
    await captions.remember(engine, {key: Captioned("a dog", (), "m", 1, 1)}, now=2.0)
    unknown, known = await captions.look_up(engine, ["unknown", key])
    assert unknown is None
    assert known is not None
    assert known == replace(CAPTION, cached=True)


@pytest.mark.parametrize("damaged", ['{"description": "a c', '{"newer": 1}', "[]", '"a cat"'])
async def test_a_damaged_caption_is_treated_as_missing(engine: Engine, damaged: str) -> None:
    await captions.remember(engine, {"good": CAPTION, "bad": CAPTION}, now=1.0)
    await damage(engine, "UPDATE captions SET result = :text WHERE key = 'bad'", damaged)
    bad, good = await captions.look_up(engine, ["bad", "good"])
    assert bad is None
    assert good == replace(CAPTION, cached=True)


async def test_a_task_whose_options_are_damaged_fails_and_holds_up_no_other(engine: Engine) -> None:
    await tasks.create_task(engine, replace(task("bad", 2), options=OPTIONS))
    await tasks.create_task(engine, replace(task("good", 1), options=OPTIONS))
    await damage(engine, "UPDATE tasks SET options = :text WHERE id = 'bad'", '{"tags": {"ki')
    (claim,) = (await claims.claim(engine, 9, owner="m", now=2.0)).claims
    assert (claim.image.file, claim.options) == ("spool-good", OPTIONS)
    async with reading(engine) as connection:
        query = text("SELECT status, result FROM images WHERE task_id = 'bad'")
        images = (await connection.execute(query)).all()
    assert [image.status for image in images] == ["FAILED", "FAILED"]
    assert all("cannot be read" in image.result for image in images)


async def test_images_with_damaged_options_take_no_place_in_a_claim(engine: Engine) -> None:
    """A claim that is not full tells the supervisor that nothing waits until the next poll."""
    await tasks.create_task(engine, replace(task("bad", 5), options=OPTIONS))
    await tasks.create_task(engine, task("good", 3))
    await damage(engine, "UPDATE tasks SET options = :text WHERE id = 'bad'", "{")
    claimed = (await claims.claim(engine, 2, owner="m", now=2.0)).claims
    assert [claim.image.file for claim in claimed] == ["spool-good"] * 2
    assert (await claims.claim(engine, 2, owner="m", now=2.0)).claims != []


async def damage(engine: Engine, change: str, damaged: str) -> None:
    async with writing(engine) as connection:
        await connection.execute(text(change), {"text": damaged})


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "captiond.db"
    path.write_bytes(b"this is not a database, and longer than a header of one hundred bytes" * 9)
    before = path.read_bytes()
    async with opened(path) as engine:
        with pytest.raises(DatabaseUnusable, match=r"captiond\.db: cannot be used.*Restore"):
            await prepare_database(engine)
    assert path.read_bytes() == before


async def test_a_database_of_a_newer_captiond_is_refused(engine: Engine, tmp_path: Path) -> None:
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnusable, match="newer captiond"):
        await prepare_database(engine)


@pytest.mark.only_on("sqlite")
async def test_a_long_log_is_reused_from_its_start_unless_a_reader_needs_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "LONG_LOG", 10)
    await tasks.create_task(engine, task("a", 100))
    async with reading(engine) as connection:
        await connection.execute(text("SELECT count(*) FROM images"))
        await tasks.create_task(engine, task("b", 100))
        with anyio.fail_after(5):
            assert await checkpoint(engine) > 0
        assert await tasks.create_task(engine, task("c", 1)) == "c"
    assert await checkpoint(engine) == 0
    async with outside_transaction(engine) as connection:
        waits = (await connection.execute(text("PRAGMA busy_timeout"))).scalar_one()
    assert waits == 1000 * BUSY_SECONDS, "the connection goes back to the pool with its own timeout"

"""Tasks in a real database: claims, fences, ends, and the migrations that make the tables."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from captiond.errors import DatabaseUnusable
from captiond.jobs import DEFAULT_OPTIONS, Captioned, NewImage, Options, Refused, Status
from captiond.store import captions, tasks
from captiond.store.engine import Engine, make_engine
from captiond.store.maintenance import checkpoint
from captiond.store.migrate import prepare_database
from captiond.store.tables import Table
from captiond.tags import Category, Kind, Tag, TagOptions

pytestmark = pytest.mark.anyio
CAT = Tag("cat", "cat", Category.ANIMAL, Kind.NOUN, 2, 5)
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3, tag_details=(CAT,))
OPTIONS = Options(
    language="en",
    tags=TagOptions(kinds=(Kind.NOUN,), categories=(Category.FOOD,), deny=("x*",), max_number=3),
)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One migrated database file, copied for each test."""
    path = tmp_path_factory.mktemp("store") / "captiond.db"

    async def migrate() -> None:
        async with opened(path) as engine:
            await prepare_database(engine, path)
            await checkpoint(engine)

    anyio.run(migrate)
    return path


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Engine]:
    engine = make_engine(path)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def engine(migrated: Path, tmp_path: Path) -> AsyncIterator[Engine]:
    async with opened(Path(shutil.copy(migrated, tmp_path))) as made:
        yield made


def images(count: int, prefix: str = "s") -> list[NewImage]:
    return [NewImage(f"{n}.png", f"{prefix}{n}", "sha", 9) for n in range(count)]


async def test_the_migrations_make_exactly_the_tables(engine: Engine) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Table.metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_commit_is_durable_and_keys_are_enforced(engine: Engine) -> None:
    async with engine.connect() as connection:
        for pragma, value in [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]:
            assert (await connection.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value


async def test_images_are_claimed_in_order_and_the_task_ends_with_the_last(engine: Engine) -> None:
    await tasks.create_task(engine, "t", images(3), now=1.0)
    first = await tasks.claim(engine, 2, owner="m", now=2.0)
    assert [claim.spool for claim in first] == ["s0", "s1"]
    taken = await tasks.finish(
        engine, [tasks.Finished(claim.image_id, 1, CAPTION) for claim in first], now=3.0
    )
    assert taken == {claim.image_id for claim in first}
    task = await tasks.read_task(engine, "t")
    assert task is not None
    assert (task.status, task.started_at, task.finished_at) == (Status.PROCESSING, 2.0, None)
    (last,) = await tasks.claim(engine, 9, owner="m", now=4.0)
    refused = Refused("damaged", "corrupt_image")
    await tasks.finish(engine, [tasks.Finished(last.image_id, 1, refused)], now=5.0)
    task = await tasks.read_task(engine, "t")
    assert task is not None
    assert (task.status, task.started_at, task.finished_at) == (Status.COMPLETED, 2.0, 5.0)
    assert [image.outcome for image in task.images] == [CAPTION, CAPTION, refused]


async def test_a_late_result_of_a_lost_attempt_is_dropped(engine: Engine) -> None:
    await tasks.create_task(engine, "t", images(1), now=1.0)
    (lost,) = await tasks.claim(engine, 1, owner="dead", now=2.0)
    assert await tasks.requeue(engine, owner="another") == 0
    assert await tasks.requeue(engine, owner="dead") == 1
    (again,) = await tasks.claim(engine, 1, owner="alive", now=3.0)
    assert again.attempt == lost.attempt + 1
    late = tasks.Finished(lost.image_id, lost.attempt, CAPTION)
    assert await tasks.finish(engine, [late], now=4.0) == set()
    mine = tasks.Finished(again.image_id, again.attempt, CAPTION)
    assert await tasks.finish(engine, [mine], now=5.0) == {again.image_id}
    assert await tasks.finish(engine, [mine], now=6.0) == set()


async def test_no_two_claims_take_the_same_image(engine: Engine) -> None:
    await tasks.create_task(engine, "t", images(200), now=1.0)
    claimed: list[int] = []

    async def take(owner: str) -> None:
        while claims := await tasks.claim(engine, 7, owner=owner, now=2.0):
            claimed.extend(claim.image_id for claim in claims)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(take, f"m{number}")
    assert sorted(claimed) == sorted(set(claimed))
    assert len(claimed) == 200


async def test_a_task_whose_files_were_all_refused_has_ended(engine: Engine) -> None:
    refused = NewImage("x", None, None, 0, Refused("no image", "not_an_image"))
    await tasks.create_task(engine, "t", [refused, refused], now=1.0)
    task = await tasks.read_task(engine, "t")
    assert task is not None
    assert (task.status, task.finished_at) == (Status.FAILED, 1.0)
    assert await tasks.claim(engine, 9, owner="m", now=2.0) == []
    assert await tasks.open_spool_names(engine) == set()


async def test_a_claim_brings_what_its_request_asked_for(engine: Engine) -> None:
    await tasks.create_task(engine, "asks", images(1), OPTIONS, now=1.0)
    await tasks.create_task(engine, "asks nothing", images(1, "t"), now=1.0)
    claims = await tasks.claim(engine, 9, owner="m", now=2.0)
    assert [claim.options for claim in claims] == [OPTIONS, DEFAULT_OPTIONS]
    async with engine.connect() as connection:
        query = text("SELECT count(*) FROM tasks WHERE options IS NULL")
        assert (await connection.execute(query)).scalar_one() == 1


async def test_a_result_of_an_earlier_version_has_no_details(engine: Engine) -> None:
    await tasks.create_task(engine, "t", images(1), now=1.0)
    async with engine.begin() as connection:
        old = '{"caption": "a cat", "tags": ["cat"], "model": "m", "width": 4, "height": 3}'
        await connection.execute(text("UPDATE images SET result = :old"), {"old": old})
    task = await tasks.read_task(engine, "t")
    assert task is not None
    assert task.images[0].outcome == Captioned("a cat", ("cat",), "m", 4, 3)


async def test_a_refused_task_leaves_no_row(engine: Engine) -> None:
    await tasks.create_task(engine, "t", images(2), now=1.0)
    with pytest.raises(Exception, match="UNIQUE"):
        await tasks.create_task(engine, "u", images(2), now=1.0)
    assert await tasks.read_task(engine, "u") is None
    assert await tasks.count_open(engine) == 2


async def test_the_cache_keeps_the_first_caption_of_a_key(engine: Engine) -> None:
    key = captions.cache_key("sha", "recipe")
    assert key != captions.cache_key("sha", "another recipe")
    assert await captions.look_up(engine, key) is None
    await captions.remember(engine, {key: CAPTION}, now=1.0)
    await captions.remember(engine, {key: Captioned("a dog", (), "m", 1, 1)}, now=2.0)
    known = await captions.look_up(engine, key)
    assert known is not None
    assert known == replace(CAPTION, cached=True)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "captiond.db"
    path.write_bytes(b"this is not a database, and longer than a header of one hundred bytes" * 9)
    before = path.read_bytes()
    async with opened(path) as engine:
        with pytest.raises(DatabaseUnusable, match=r"captiond\.db: cannot be used.*Restore"):
            await prepare_database(engine, path)
    assert path.read_bytes() == before


async def test_a_database_of_a_newer_captiond_is_refused(engine: Engine, tmp_path: Path) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnusable, match="newer captiond"):
        await prepare_database(engine, tmp_path / "captiond.db")

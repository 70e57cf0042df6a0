"""The fixture `store`: a migrated database for each test.

It is one of SQLite. In the modules of BOTH, each test that has it runs on PostgreSQL as well.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import anyio
import pytest

from captiond.databaseurl import DatabaseAddress
from captiond.store.engine import Engine, make_engine
from captiond.tagging import tagger
from captiond.tagging.pipelines import load_pipeline
from tests.migrated import NAME, migrate, migrated_folder
from tests.postgres import PostgresServer, ReusedDatabase, postgres_server

BOTH = {
    "test_assignment",
    "test_completion",
    "test_deliveries",
    "test_history",
    "test_leases",
    "test_queued_shards",
    "test_results",
    "test_retention",
    "test_retry",
    "test_shards",
    "test_status_cache",
    "test_store",
    "test_store_guards",
    "test_turns",
}
SQLITE, POSTGRESQL = "sqlite", "postgresql"
load_pipeline_once = cache(load_pipeline)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of BOTH on each database, apart from those that say which one they need."""
    if "database" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only_on")
        both = metafunc.module.__name__.rpartition(".")[2] in BOTH
        databases = only.args if only else (SQLITE, POSTGRESQL) if both else (SQLITE,)
        metafunc.parametrize("database", databases, indirect=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one migrated database file, which is copied for each test."""
    folder = tmp_path_factory.mktemp("migrated") / "data"
    migrated_folder(folder)
    return folder / NAME


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of this process, which leave it running."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def reused(postgres: PostgresServer) -> ReusedDatabase:
    """A migrated database, which has no rows when a test begins."""
    name = postgres.create_database()
    anyio.run(migrate, postgres.address(name))
    return ReusedDatabase(postgres, name)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """The kind of database that a test runs on."""
    return str(request.param)


@pytest.fixture
def store_address(
    request: pytest.FixtureRequest, database: str, tmp_path: Path
) -> Iterator[DatabaseAddress]:
    """Where the migrated database of a test is."""
    if database == SQLITE:
        file = request.getfixturevalue("migrated_file")
        yield DatabaseAddress(Path(shutil.copy(file, tmp_path)))
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    reused: ReusedDatabase = request.getfixturevalue("reused")
    with reused.used() as name:
        yield server.address(name)


@pytest.fixture
async def store(store_address: DatabaseAddress) -> AsyncIterator[Engine]:
    engine = make_engine(store_address)
    try:
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture
async def there(store_address: DatabaseAddress) -> AsyncIterator[Engine]:
    """The database as another node sees it."""
    engine = make_engine(store_address)
    yield engine
    await engine.dispose()


@pytest.fixture
def loaded_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all taggers of this process have the same pipelines, which are loaded once.

    It is for model processes that run in a test. Each of them would take a third of a second more.
    """
    monkeypatch.setattr(tagger, "load_pipeline", load_pipeline_once)

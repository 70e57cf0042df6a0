"""The fixture `store`: a migrated database for each test."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from captiond.store.engine import Engine, make_engine
from captiond.store.maintenance import checkpoint
from captiond.store.migrate import prepare_database


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one migrated database file, which is copied for each test."""
    path = tmp_path_factory.mktemp("migrated") / "captiond.db"

    async def migrate() -> None:
        engine = make_engine(path)
        await prepare_database(engine, path)
        await checkpoint(engine)
        await engine.dispose()

    anyio.run(migrate)
    return path


@pytest.fixture
async def store(migrated_file: Path, tmp_path: Path) -> AsyncIterator[Engine]:
    engine = make_engine(Path(shutil.copy(migrated_file, tmp_path)))
    try:
        yield engine
    finally:
        await engine.dispose()

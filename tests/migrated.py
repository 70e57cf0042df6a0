"""A migrated database of SQLite, which is made once for each process and then copied.

A start with a new data folder imports Alembic and runs all migrations: a fifth of a second of a
core. Services in a new folder start that way where a program starts them in a test: those of
`captiond bench`, those with a `prefix`, and commands.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from captiond.databaseurl import DatabaseAddress
from captiond.store.engine import make_engine
from captiond.store.maintenance import checkpoint
from captiond.store.migrate import prepare_database

NAME = "captiond.db"


async def migrate(address: DatabaseAddress) -> None:
    """Make the tables of a database."""
    engine = make_engine(address)
    await prepare_database(engine)
    await checkpoint(engine)
    await engine.dispose()


@cache
def content() -> bytes:
    """Return the file of a migrated database. A thread makes it: a test may have a loop."""
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        file = Path(folder) / NAME
        thread.submit(asyncio.run, migrate(DatabaseAddress(file))).result()
        return file.read_bytes()


def migrated_folder(data: Path) -> None:
    """Make a data folder with a migrated database, if it does not exist."""
    if data.exists():
        return
    data.mkdir(mode=0o700, parents=True)
    file = data / NAME
    file.touch(mode=0o600)
    file.write_bytes(content())

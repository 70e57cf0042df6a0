"""Open the database of a data folder, for commands that use it while the service may run."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from captiond.errors import StartupError
from captiond.settings.config import Settings
from captiond.store.engine import Engine, make_engine
from captiond.store.migrate import check_revision, prepare_database
from captiond.supervisor.datafolder import create_privately, make_folders
from captiond.supervisor.lock import locked


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Engine]:
    """Open the database of these settings, and close it on leaving.

    Raises:
        StartupError: there is no database.
        DatabaseUnusable: the database is damaged, or its tables are of another version of captiond.
    """
    check_is_there(settings)
    engine = make_engine(settings.database_address)
    try:
        await check_revision(engine)
        yield engine
    finally:
        await engine.dispose()


async def created(settings: Settings) -> None:
    """Create the data folder and the database.

    Raises:
        StartupError: they cannot be created.
        AlreadyRunning: the service is starting.
    """
    create_privately()
    make_folders(settings.data.dir)
    with locked(settings.data.dir):
        engine = make_engine(settings.database_address)
        try:
            await prepare_database(engine)
        finally:
            await engine.dispose()


def has_database(settings: Settings) -> bool:
    """Return whether there is a file of a database, or the database is one of a server."""
    file = settings.database_address.file
    return file is None or file.is_file()


def check_is_there(settings: Settings) -> None:
    """Check that there is a file of a database that this user may read and write.

    SQLite would create a missing database. Whether a server has one shows when it is connected to.

    Raises:
        StartupError: there is no such database.
    """
    database = settings.database_address.file
    if database is None:
        return
    if not database.is_file():
        raise StartupError(
            f"{database}: there is no database; name the service's data folder with --data-dir"
        )
    if not all(os.access(path, os.R_OK | os.W_OK) for path in (database, database.parent)):
        raise StartupError(
            f"{database}: not writable for this user; run this as the user of the service"
        )

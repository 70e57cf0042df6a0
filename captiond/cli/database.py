"""A data folder's database, for commands that read and write it beside the service."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from captiond.config import Settings
from captiond.errors import StartupError
from captiond.store.engine import Engine, make_engine
from captiond.store.migrate import check_revision


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Engine]:
    """The database of these settings, whose tables are this captiond's.

    Raises:
        StartupError: there is none.
        DatabaseUnusable: it cannot be used.
    """
    check_is_there(settings)
    engine = make_engine(settings.database)
    try:
        await check_revision(engine, settings.database)
        yield engine
    finally:
        await engine.dispose()


def check_is_there(settings: Settings) -> None:
    """Pass if there is a database that this user may use; opening none would make one.

    Raises:
        StartupError: there is not.
    """
    database = settings.database
    if not database.is_file():
        raise StartupError(
            f"{database}: there is no database; name the service's data folder with --data-dir"
        )
    if not all(os.access(path, os.R_OK | os.W_OK) for path in (database, database.parent)):
        raise StartupError(f"{database}: not writable for this user; be the user of the service")

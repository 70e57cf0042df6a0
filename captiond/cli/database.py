"""The database of a data folder, for commands that may run beside the service."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from captiond.config import Settings
from captiond.errors import StartupError
from captiond.store.engine import Engine, make_engine
from captiond.store.migrate import check_revision


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Engine]:
    """Open the database of these settings. Its tables are those of this captiond.

    Raises:
        StartupError: There is no database, or this user may not use it.
        DatabaseUnusable: It is damaged, or belongs to another version.
    """
    check_is_there(settings)
    engine = make_engine(settings.database)
    try:
        await check_revision(engine, settings.database)
        yield engine
    finally:
        await engine.dispose()


def check_is_there(settings: Settings) -> None:
    """Return if there is a database that this user may use. To open a missing one would create it.

    Raises:
        StartupError: There is none, or this user may not use it.
    """
    database = settings.database
    if not database.is_file():
        raise StartupError(
            f"{database}: there is no database; name the service's data folder with --data-dir"
        )
    if not all(os.access(path, os.R_OK | os.W_OK) for path in (database, database.parent)):
        raise StartupError(
            f"{database}: this user may not write it; run the command as the user of the service"
        )

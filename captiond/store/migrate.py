"""Migrations: upgrade a database file to the tables of this captiond."""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.errors import (
    DatabaseUnusable,
    NoSpace,
    StorageFailed,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
)
from captiond.store.engine import Engine, reading, writing
from captiond.store.sqlite import quick_damage

PACKAGE = Path(__file__).resolve().parent.parent
VERSION = table("alembic_version", column("version_num"))  # Alembic writes it: a row, or none


def migrations_folder() -> Path:
    """Return the folder of the migrations: in an installed package, or beside it in a checkout."""
    shipped = PACKAGE / "migrations"
    return shipped if shipped.is_dir() else PACKAGE.parent / "migrations"


async def prepare_database(engine: Engine, database: Path) -> None:
    """Check the file and update its tables. A new file gets all of them.

    Raises:
        DatabaseUnusable: The file is damaged, read-only, not a database, or newer than this
            captiond. Nothing was changed.
        StoreError: Another process keeps it locked, or the disk is full.
    """
    try:
        async with writing(engine) as connection:
            await refuse_damaged(connection, database)
            if await connection.run_sync(present_revision) != head():
                from captiond.store.upgrade import upgrade

                await connection.run_sync(upgrade, migrations_folder(), database)
    except StoreError as error:
        raise at_start(database, error) from error


async def check_undamaged(engine: Engine, database: Path) -> None:
    """Return if a start would find no damage in the file.

    Raises:
        DatabaseUnusable: The file is damaged, or not a database.
        StoreError: The file cannot be read now.
    """
    try:
        async with reading(engine) as connection:
            await refuse_damaged(connection, database)
    except StoreError as error:
        raise at_start(database, error) from error


async def refuse_damaged(connection: AsyncConnection, database: Path) -> None:
    damage = await quick_damage(connection)
    # guard: damaged-database
    if damage is not None:
        raise DatabaseUnusable(unusable(database, damage))


def present_revision(connection: Connection) -> str | None:
    """Return the revision of the tables, or None if there are none."""
    if not inspect(connection).has_table(VERSION.name):
        return None
    return connection.scalar(select(VERSION.c.version_num))


async def check_revision(engine: Engine, database: Path) -> None:
    """Return if the tables are those of this captiond.

    Raises:
        DatabaseUnusable: They are not, or the file is not a database.
        StoreError: The file cannot be read now.
    """
    present = await revision(engine, database)
    if present != head():
        raise DatabaseUnusable(
            f"{database}: its tables have revision {present}, this captiond needs {head()}; run "
            "captiond db upgrade if that is newer, or else use the captiond that made the database"
        )


async def revision(engine: Engine, database: Path) -> str | None:
    """Return the revision of a database's tables, or None if it has none.

    Raises:
        DatabaseUnusable: The file is not a database, or is damaged.
        StoreError: The file cannot be read now.
    """

    try:
        async with reading(engine) as connection:
            return await connection.run_sync(present_revision)
    except StoreError as error:
        raise at_start(database, error) from error


def head() -> str:
    """Return the newest revision that this captiond knows. Names of migrations begin with theirs.

    Alembic would read all migrations to find it.
    """
    return max(path.name for path in migrations_folder().glob("versions/*.py")).partition("_")[0]


def is_older(present: str | None) -> bool:
    """Return whether tables have an earlier revision than this captiond needs, or none yet."""
    known = {path.name.partition("_")[0] for path in migrations_folder().glob("versions/*.py")}
    return present is None or present in known - {head()}


def at_start(database: Path, error: StoreError) -> StoreError | DatabaseUnusable:
    """Return the error to raise at a start: the same one if it may pass, else DatabaseUnusable."""
    if isinstance(error, StoreBusy | NoSpace):
        return error
    if isinstance(error, StoreReadOnly):
        return DatabaseUnusable(f"{database}: {error}")
    if isinstance(error, StorageFailed):  # nothing is wrong with its content
        return DatabaseUnusable(
            f"{database}: cannot be read or written: {driver_message(error)}. Nothing was changed. "
            "Check the disk, and that this user owns the data folder and the files in it"
        )
    if isinstance(error, StoreDamaged):
        return DatabaseUnusable(unusable(database, driver_message(error)))
    return DatabaseUnusable(  # a statement that SQLite refuses says nothing about the file
        f"{database}: cannot be used by this captiond: {driver_message(error)}. Nothing was "
        "changed. Keep the file, and run the version of captiond that made it"
    )


def driver_message(error: StoreError) -> str:
    return str(getattr(error.__cause__, "orig", error.__cause__ or error))


def unusable(database: Path, problem: str) -> str:
    reason = problem.splitlines()[-1]
    return (
        f"{database}: cannot be used: {reason}. Nothing was changed. Restore a backup, or move "
        f"{database.name}, {database.name}-wal and {database.name}-shm away to start empty"
    )

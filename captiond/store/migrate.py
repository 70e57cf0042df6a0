"""Migrations: upgrade a database to the tables of this captiond."""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.databaseurl import DatabaseAddress
from captiond.errors import (
    DatabaseUnusable,
    NoSpace,
    StorageFailed,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreReadOnly,
    StoreUnreachable,
)
from captiond.store.engine import Engine, looking_up, reading, writing
from captiond.store.tables import ClockRow

PACKAGE = Path(__file__).resolve().parent.parent
UNFINISHED_COPY = "copy of "  # the beginning of a clock's name, see `moving`
VERSION = table("alembic_version", column("version_num"))  # Alembic writes it: a row, or none


def migrations_folder() -> Path:
    """Return the folder of the migrations: in an installed package, or beside it in a checkout."""
    shipped = PACKAGE / "migrations"
    return shipped if shipped.is_dir() else PACKAGE.parent / "migrations"


async def prepare_database(engine: Engine) -> None:
    """Check the database and update its tables. A new database gets all of them.

    Raises:
        DatabaseUnusable: It is damaged, read-only, not a database, or newer than this captiond.
            Nothing was changed.
        StoreError: Another process keeps it locked, it cannot be reached, or the disk is full.
    """
    await prepare_tables(engine)
    # guard: no-service-on-an-unfinished-copy
    if await copy_under_way(engine) is not None:
        raise DatabaseUnusable(
            f"{engine.database.address}: holds an unfinished copy of another database; run "
            "captiond db copy again, which continues it"
        )


async def copy_under_way(engine: Engine) -> str | None:
    """Return the name of the clock that marks an unfinished copy, or None.

    Raises:
        StoreError: The database cannot be read now.
    """
    query = select(ClockRow.name).where(ClockRow.name.startswith(UNFINISHED_COPY))
    async with looking_up(engine) as connection:
        return (await connection.execute(query)).scalar_one_or_none()


async def prepare_tables(engine: Engine) -> None:
    """Check the database and update its tables, as `prepare_database` does.

    Raises:
        DatabaseUnusable, StoreError: It cannot be used. Nothing was changed.
    """
    address = engine.database.address
    try:
        async with writing(engine) as connection:
            await engine.database.lock_tables(connection)
            await refuse_damaged(engine, connection)
            if await connection.run_sync(present_revision) != head():
                from captiond.store.upgrade import upgrade

                await connection.run_sync(upgrade, migrations_folder(), str(address))
    except StoreError as error:
        raise at_start(address, error) from error


async def check_undamaged(engine: Engine) -> None:
    """Return if a start would find no damage in the database.

    Raises:
        DatabaseUnusable: It is damaged, or not a database.
        StoreError: It cannot be read now.
    """
    try:
        async with reading(engine) as connection:
            await refuse_damaged(engine, connection)
    except StoreError as error:
        raise at_start(engine.database.address, error) from error


async def refuse_damaged(engine: Engine, connection: AsyncConnection) -> None:
    damage = await engine.database.quick_damage(connection)
    # guard: damaged-database
    if damage is not None:
        raise DatabaseUnusable(unusable(engine.database.address, damage))


def present_revision(connection: Connection) -> str | None:
    """Return the revision of the tables, or None if there are none."""
    if not inspect(connection).has_table(VERSION.name):
        return None
    return connection.scalar(select(VERSION.c.version_num))


async def check_revision(engine: Engine) -> None:
    """Return if the tables are those of this captiond.

    Raises:
        DatabaseUnusable: They are not, or the file is not a database.
        StoreError: The database cannot be read now.
    """
    present = await revision(engine)
    if present != head():
        raise DatabaseUnusable(
            f"{engine.database.address}: its tables have revision {present}, this captiond needs "
            f"{head()}; run captiond db upgrade if that is newer, or else use the captiond that "
            "made the database"
        )


async def revision(engine: Engine) -> str | None:
    """Return the revision of a database's tables, or None if it has none.

    Raises:
        DatabaseUnusable: The file is not a database, or is damaged.
        StoreError: The database cannot be read now.
    """
    try:
        async with reading(engine) as connection:
            return await connection.run_sync(present_revision)
    except StoreError as error:
        raise at_start(engine.database.address, error) from error


def head() -> str:
    """Return the newest revision that this captiond knows. Names of migrations begin with theirs.

    Alembic would read all migrations to find it.
    """
    return max(path.name for path in migrations_folder().glob("versions/*.py")).partition("_")[0]


def is_older(present: str | None) -> bool:
    """Return whether tables have an earlier revision than this captiond needs, or none yet."""
    known = {path.name.partition("_")[0] for path in migrations_folder().glob("versions/*.py")}
    return present is None or present in known - {head()}


def at_start(address: DatabaseAddress, error: StoreError) -> StoreError | DatabaseUnusable:
    """Return the error to raise at a start: the same one if it may pass, else DatabaseUnusable."""
    if isinstance(error, StoreUnreachable):
        return type(error)(f"{address}: {driver_message(error)}")
    if isinstance(error, StoreBusy | NoSpace):
        return error
    if isinstance(error, StoreReadOnly):
        return DatabaseUnusable(f"{address}: {error}")
    if isinstance(error, StorageFailed):  # nothing is wrong with its content
        return DatabaseUnusable(
            f"{address}: cannot be read or written: {driver_message(error)}. Nothing was changed. "
            + (
                "Check the rights of the database user and the log of the server"
                if address.is_server
                else "Check the disk, and that this user owns the data folder and the files in it"
            )
        )
    if isinstance(error, StoreDamaged):
        return DatabaseUnusable(unusable(address, driver_message(error)))
    return DatabaseUnusable(  # a statement that is refused says nothing about the content
        f"{address}: cannot be used by this captiond: {driver_message(error)}. Nothing was "
        "changed. Keep the database, and run the version of captiond that made it"
    )


def driver_message(error: StoreError) -> str:
    return str(getattr(error.__cause__, "orig", error.__cause__ or error))


def unusable(address: DatabaseAddress, problem: str) -> str:
    reason = problem.splitlines()[-1]
    if address.file is None:
        return f"{address}: cannot be used: {reason}. Nothing was changed"
    name = address.file.name
    return (
        f"{address}: cannot be used: {reason}. Nothing was changed. Restore a backup, or move "
        f"{name}, {name}-wal and {name}-shm away to start empty"
    )

"""Bringing a database file up to this captiond's tables."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from captiond.errors import DatabaseUnusable, StorageFailed
from captiond.store.sqlite import Engine, reading, writing

PACKAGE = Path(__file__).resolve().parent.parent


def migrations_folder() -> Path:
    """Inside the package where captiond was installed from a wheel, beside it in a checkout."""
    shipped = PACKAGE / "migrations"
    return shipped if shipped.is_dir() else PACKAGE.parent / "migrations"


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    return config


async def prepare_database(engine: Engine, database: Path) -> None:
    """Check the file and bring its tables up to date; a new file gets them all.

    Raises:
        DatabaseUnusable: it is corrupt, not a database, or newer than this captiond.
    """
    try:
        async with writing(engine) as connection:
            verdict = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar_one()
            if verdict != "ok":
                raise DatabaseUnusable(corrupt(database, verdict))
            await connection.run_sync(upgrade)
    except StorageFailed as error:
        raise DatabaseUnusable(corrupt(database, str(error))) from error
    except DatabaseError as error:
        raise DatabaseUnusable(corrupt(database, str(error.orig))) from error
    except CommandError as error:
        raise DatabaseUnusable(
            f"{database}: made by a newer captiond ({error}); run that one, or restore a backup"
        ) from error


def upgrade(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def check_revision(engine: Engine, database: Path) -> None:
    """Pass if the tables are this captiond's.

    Raises:
        DatabaseUnusable: they are not, or the file is no database.
    """
    found = await revision(engine, database)
    if found != head():
        raise DatabaseUnusable(
            f"{database}: its tables are of revision {found}, this captiond's are of {head()}; run "
            "captiond db upgrade if that is the newer one, or else the captiond that made it"
        )


async def revision(engine: Engine, database: Path) -> str | None:
    """The revision of a database's tables; None where it has none.

    Raises:
        DatabaseUnusable: the file is no database, or damaged.
    """

    def read(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    try:
        async with reading(engine) as connection:
            return await connection.run_sync(read)
    except (DatabaseError, StorageFailed) as error:
        raise DatabaseUnusable(corrupt(database, str(getattr(error, "orig", error)))) from error


def head() -> str | None:
    """The newest revision that this captiond knows."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def corrupt(database: Path, problem: str) -> str:
    said = problem.splitlines()[-1]
    return (
        f"{database}: cannot be used: {said}. Nothing was changed. Restore a backup, or move "
        f"{database.name}, {database.name}-wal and {database.name}-shm away to start empty"
    )

"""Run the migrations, with Alembic.

Only `captiond.store.migrate` imports this module, and only for a database that is not up to date:
the import takes longer than everything else that a start does with the database.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from captiond.errors import DatabaseUnusable


def alembic_config(migrations: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    return config


def upgrade(connection: Connection, migrations: Path, database: str) -> None:
    """Upgrade the tables to the newest revision.

    Raises:
        DatabaseUnusable: the database is newer than these migrations.
    """
    config = alembic_config(migrations)
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseUnusable(
            f"{database}: made by a newer captiond ({error}); run that one, or restore a backup"
        ) from error

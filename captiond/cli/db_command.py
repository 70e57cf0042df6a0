"""`captiond db`: back up, copy, check and upgrade the database."""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

from captiond.cli.arguments import Config, Data, Set, settings_from
from captiond.cli.exits import cleaning_up_on_interrupt
from captiond.databaseurl import check_database_url
from captiond.errors import BackupFailed, SettingsError
from captiond.settings.config import Settings

db_app = typer.Typer(no_args_is_help=True, help="Back up, copy, check and upgrade the database.")
EXIT_PROBLEMS = 1


@db_app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy to write.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Copy the database to FILE, whether or not the service runs.

    The copy is checked, and gets the name FILE only when it is complete and on disk.
    """
    from rich.console import Console
    from rich.progress import Progress

    from captiond.cli.database import check_is_there
    from captiond.cli.database_backup import back_up

    settings = settings_from(config, {}, data=data, assignments=assignments)
    check_is_there(settings)
    database = settings.database_address.file
    if database is None:
        raise BackupFailed(
            f"{settings.database_address}: captiond copies files only; copy a database of "
            "PostgreSQL with pg_dump, or with captiond db copy"
        )
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(f"copying {database}", total=None)

        def show(done: int, pages: int) -> None:
            progress.update(bar, completed=done, total=pages)

        with cleaning_up_on_interrupt():
            size = back_up(database, file, overwrite=force, progress=show)
    typer.echo(f"{file}: {size} bytes, checked")


@db_app.command()
def copy(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="The database to copy to: sqlite:///FILE or postgresql+psycopg://USER@HOST/DB.",
        ),
    ],
    *,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Copy the database into an empty one, of SQLite or of PostgreSQL. The service must not run.

    If the command is interrupted, run it again: it continues. At the end, it compares both.
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from captiond.cli.database_copy import copy_to

    settings = settings_from(config, {}, data=data, assignments=assignments)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def show(table: str, done: int, rows: int) -> None:
            if table not in bars:
                bars[table] = progress.add_task(f"copying {table}", total=rows)
            progress.update(bars[table], completed=done)

        copy_to(settings, checked_url(url), typer.echo, show)


def checked_url(url: str) -> str:
    """Return a URL that a command has.

    Raises:
        SettingsError: it names no database. The message does not show it.
    """
    try:
        if checked := check_database_url(url):
            return checked
    except ValueError as error:
        raise SettingsError(f"URL: {error}") from None
    raise SettingsError("URL: must not be empty")


@db_app.command()
def check(*, config: Config = None, data: Data = None, assignments: Set = None) -> None:
    """Check the database for damage, and for tasks, images and spool files that do not match.

    Nothing is changed. The exit status is 1 if there is a problem.
    """
    from captiond.cli.database_check import check_all

    settings = settings_from(config, {}, data=data, assignments=assignments)
    if asyncio.run(check_all(settings, typer.echo)):
        raise typer.Exit(EXIT_PROBLEMS)


@db_app.command()
def upgrade(*, config: Config = None, data: Data = None, assignments: Set = None) -> None:
    """Upgrade the tables to this version of captiond. The service must not run.

    Each start of the service does this, too.
    """
    settings = settings_from(config, {}, data=data, assignments=assignments)
    before, after = asyncio.run(upgrade_tables(settings))
    done = "is up to date" if before == after else f"upgraded from revision {before}"
    typer.echo(f"{settings.database_address}: {done}: revision {after}")


async def upgrade_tables(settings: Settings) -> tuple[str | None, str | None]:
    """Upgrade the tables, and return the revisions before and after.

    Raises:
        StartupError: there is no database.
        AlreadyRunning: the service runs.
        DatabaseUnusable: the database is damaged, or newer than this captiond. It is unchanged.
    """
    from captiond.cli.database import check_is_there
    from captiond.store.engine import make_engine
    from captiond.store.migrate import prepare_database, revision
    from captiond.supervisor.lock import locked

    check_is_there(settings)
    # Services on other hosts may use a server meanwhile, and it lets one upgrade after the other.
    is_server = settings.database_address.is_server
    with contextlib.nullcontext() if is_server else locked(settings.data.dir):
        engine = make_engine(settings.database_address)
        try:
            before = await revision(engine)
            await prepare_database(engine)
            return before, await revision(engine)
        finally:
            await engine.dispose()

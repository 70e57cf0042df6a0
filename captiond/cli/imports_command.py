"""`captiond imports`: show and cancel what `captiond import` works at."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from captiond.cli.arguments import Config, Data, Set, between, settings_from
from captiond.config import Settings

if TYPE_CHECKING:
    from captiond.store.shards import ImportState

MOST_IMPORTS = 10_000
IMPORT_COLUMNS = ("import", "status", "images", "failed", "begun", "finished", "output")
imports_app = typer.Typer(
    no_args_is_help=True, help="Show and cancel imports, whether or not a command works on them."
)
ImportId = Annotated[
    str, typer.Argument(metavar="IMPORT", help="Id of the import, as in captiond imports list.")
]


@imports_app.command("list")
def list_imports(
    *,
    limit: Annotated[
        int,
        typer.Option(
            callback=between(1, MOST_IMPORTS),
            help=f"Largest number of imports to list, at most {MOST_IMPORTS}.",
        ),
    ] = 20,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """List the newest imports: as a table on a terminal, as JSON lines in a pipe."""
    settings = settings_from(config, {}, data=data, assignments=assignments)
    show_imports(asyncio.run(newest(settings, limit)))


@imports_app.command("show")
def show_import(
    name: ImportId, *, config: Config = None, data: Data = None, assignments: Set = None
) -> None:
    """Show how far an import is: as a table on a terminal, as JSON in a pipe."""
    settings = settings_from(config, {}, data=data, assignments=assignments)
    show_imports([asyncio.run(read(settings, name))])


@imports_app.command("cancel")
def cancel_import(
    name: ImportId, *, config: Config = None, data: Data = None, assignments: Set = None
) -> None:
    """Cancel an import. The commands that work on it stop. Results that are written stay."""
    settings = settings_from(config, {}, data=data, assignments=assignments)
    asyncio.run(cancel(settings, name))
    typer.echo(f"{name}: cancelled")


async def newest(settings: Settings, limit: int) -> "list[ImportState]":
    from captiond.cli.database import opened
    from captiond.store.shards import newest_imports

    async with opened(settings) as engine:
        return await newest_imports(engine, limit)


async def read(settings: Settings, name: str) -> "ImportState":
    """Return an import.

    Raises:
        ImportNotFound
    """
    from captiond.cli.database import opened
    from captiond.store.shards import read_import

    async with opened(settings) as engine:
        return await read_import(engine, name)


async def cancel(settings: Settings, name: str) -> None:
    """Cancel an import.

    Raises:
        ImportNotFound, TaskFinished
    """
    from captiond.cli.database import opened
    from captiond.store import shards

    async with opened(settings) as engine:
        await shards.cancel_import(engine, name, time.time())


def show_imports(states: "list[ImportState]") -> None:
    from captiond.cli.formats import json_text, print_line
    from captiond.cli.listings import moment, plain, print_listing
    from captiond.web.import_schemas import import_item

    items = [import_item(state) for state in states]
    if not sys.stdout.isatty():
        for each in items:
            print_line(json_text(each), sys.stdout)
        return
    rows = [
        (
            plain(each["import_id"]),
            plain(each["status"]),
            plain(f"{each['progress']['done']}/{each['progress']['total']}"),
            plain(each["progress"]["failed"] or ""),
            moment(each["created_at"]),
            moment(each["finished_at"]),
            plain(each["output"]),
        )
        for each in items
    ]
    print_listing(IMPORT_COLUMNS, rows, sys.stdout)
    for state in states:
        if state.problem and not state.status.terminal:
            print_line(f"{state.id}: {state.problem}", sys.stdout)

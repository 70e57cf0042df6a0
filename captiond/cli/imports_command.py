"""`captiond imports`: show and cancel what `captiond import` works at, and call its webhooks."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captiond.cli.arguments import USUAL_LIMIT, Config, Data, Set, limit_option, settings_from
from captiond.errors import ImportNotFound
from captiond.settings.config import Settings

if TYPE_CHECKING:
    from captiond.web.import_schemas import ImportItem

IMPORT_COLUMNS = ("import", "status", "images", "failed", "begun", "finished", "output")
imports_app = typer.Typer(
    no_args_is_help=True,
    help="Show and cancel imports, whether or not a command or the service works on them.",
)
ImportId = Annotated[
    str, typer.Argument(metavar="IMPORT", help="Id of the import, as in captiond imports list.")
]


@imports_app.command("list")
def list_imports(
    *,
    limit: Annotated[int, limit_option("imports")] = USUAL_LIMIT,
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
    """Show how far an import is, and its webhook: as tables on a terminal, as JSON in a pipe."""
    from captiond.cli.delivery_views import show_deliveries

    settings = settings_from(config, {}, data=data, assignments=assignments)
    shown = asyncio.run(read(settings, name))
    show_imports([shown])
    if sys.stdout.isatty():
        show_deliveries(shown["deliveries"], sys.stdout)


@imports_app.command("cancel")
def cancel_import(
    name: ImportId, *, config: Config = None, data: Data = None, assignments: Set = None
) -> None:
    """Cancel an import. The commands that work on it stop. Results that are written stay."""
    settings = settings_from(config, {}, data=data, assignments=assignments)
    asyncio.run(cancel(settings, name))
    typer.echo(f"{name}: cancelled")


@imports_app.command("redeliver")
def redeliver_import(
    name: ImportId, *, config: Config = None, data: Data = None, assignments: Set = None
) -> None:
    """Deliver the webhook of an import again, even if it was delivered before.

    A running service sends it at once, otherwise the next start does.
    """
    settings = settings_from(config, {}, data=data, assignments=assignments)
    number = asyncio.run(redeliver(settings, name))
    typer.echo(f"webhooks to deliver: {number}")


async def newest(settings: Settings, limit: int) -> "list[ImportItem]":
    from captiond.cli.database import opened
    from captiond.store.shards import newest_imports
    from captiond.web.import_schemas import import_item

    async with opened(settings) as engine:
        return [import_item(state) for state in await newest_imports(engine, limit)]


async def read(settings: Settings, name: str) -> dict[str, Any]:
    """Return an import as the HTTP API does, with the delivery of its webhook.

    Raises:
        ImportNotFound
    """
    from captiond.cli.database import opened
    from captiond.cli.delivery_views import delivery_items
    from captiond.store import deliveries, shards
    from captiond.web.import_schemas import import_item

    async with opened(settings) as engine:
        state = await shards.read_import(engine, name)
        owed = await deliveries.of_import(engine, name)
    return {**import_item(state), "deliveries": delivery_items(owed)}


async def cancel(settings: Settings, name: str) -> None:
    """Cancel an import.

    Raises:
        ImportNotFound, TaskFinished
    """
    from captiond.cli.database import opened
    from captiond.store import shards

    async with opened(settings) as engine:
        await shards.cancel_import(engine, name, time.time())


async def redeliver(settings: Settings, name: str) -> int:
    """Schedule the delivery of an import again, and return the number of deliveries.

    Raises:
        ImportNotFound: there is no such import, or it has no webhook.
    """
    from captiond.cli.database import opened
    from captiond.store import deliveries, shards

    async with opened(settings) as engine:
        await shards.read_import(engine, name)
        number = await deliveries.redeliver_import(engine, name, now=time.time())
    if number == 0:
        raise ImportNotFound(
            f"{name}: there is no webhook of this import: it is not finished, or --callback-url "
            "was not given; captiond imports show says which"
        )
    return number


def show_imports(items: Sequence[Mapping[str, Any]]) -> None:
    from captiond.cli.formats import json_text, print_line
    from captiond.cli.listings import moment, plain, print_listing, status

    if not sys.stdout.isatty():
        for each in items:
            print_line(json_text(each), sys.stdout)
        return
    rows = [
        (
            plain(each["import_id"]),
            status(each["status"]),
            plain(f"{each['progress']['done']}/{each['progress']['total']}"),
            plain(each["progress"]["failed"] or ""),
            moment(each["created_at"]),
            moment(each["finished_at"]),
            plain(each["output"]),
        )
        for each in items
    ]
    print_listing(IMPORT_COLUMNS, rows, sys.stdout)
    for each in items:
        if each["problem"] and each["finished_at"] is None:
            print_line(f"{each['import_id']}: {each['problem']}", sys.stdout)

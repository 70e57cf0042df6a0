"""`captiond export`: the results of a task or of an import as one file."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from captiond.cli.arguments import Config, Data, Set, settings_from
from captiond.cli.streams import writing_to
from captiond.settings.config import Settings

RESULTS_AT_ONCE = 500


def export(
    name: Annotated[str, typer.Argument(metavar="ID", help="Id of the task or of the import.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the results to this file, - is standard output. Without --json, --jsonl or "
            "--csv, its extension decides the format.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON array.")] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Write one JSON object for each line.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write comma-separated values.")] = False,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Write the results that a task or an import has so far, whether or not the service runs.

    The results are in the order of the images. They are written as they are read, so a task may
    have any number of them. In a pipe they are JSON lines.
    """
    from captiond.cli.formats import Format

    asked = {Format.JSON: json, Format.JSONL: jsonl, Format.CSV: csv}
    chosen = format_of([each for each, is_asked in asked.items() if is_asked], output)
    settings = settings_from(config, {}, data=data, assignments=assignments)
    asyncio.run(write_results(settings, name, chosen, output))


def format_of(asked: list[Any], output: Path | None) -> Any:
    """Return the format that a flag names, or else the extension of the file.

    Raises:
        SettingsError: several are named, or the extension is that of another format.
    """
    from captiond.cli.formats import Format, format_by_name, pick_format

    if asked:
        return pick_format(asked)
    return format_by_name(output) if output else Format.JSONL


async def write_results(settings: Settings, name: str, chosen: Any, output: Path | None) -> None:
    """Write the results of a task or of an import. The file is opened when the first one is read.

    Raises:
        TaskNotFound, ImportNotFound
    """
    from captiond.cli.database import opened
    from captiond.cli.formats import printer

    async with opened(settings) as engine:
        is_import = name.startswith("import_")
        results = results_of_import(engine, name) if is_import else results_of_task(engine, name)
        first = await anext(results, None)
        with opened_output(output) as out, printer(chosen, out) as show:
            if first is not None:
                show(first)
            async for result in results:
                show(result)


@contextmanager
def opened_output(output: Path | None) -> Iterator[TextIO]:
    """Yield the file to write, which is emptied, or standard output if there is none."""
    from captiond.cli.formats import STANDARD_OUTPUT

    if output in {None, STANDARD_OUTPUT}:
        yield sys.stdout
        return
    with writing_to(output), output.open("w", encoding="utf-8", newline="") as file:
        yield file


async def results_of_import(engine: Any, name: str) -> AsyncIterator[dict[str, Any]]:
    from captiond.bulk.importing import results_so_far

    async for row in results_so_far(engine, name):
        yield {"image_path": row.pop("uri"), **row}


async def results_of_task(engine: Any, name: str) -> AsyncIterator[dict[str, Any]]:
    from captiond.errors import TaskNotFound
    from captiond.jobs import Status
    from captiond.store.history import results_from
    from captiond.store.results import image_view
    from captiond.store.snapshots import read_state
    from captiond.web.schemas import image_result

    state = await read_state(engine, name)
    if state is None:
        raise TaskNotFound(f"there is no task {name}; captiond tasks list shows their ids")
    position, revision = 0, state.revision
    while rows := await results_from(
        engine, name, position, revision=revision, limit=RESULTS_AT_ONCE
    ):
        for _, _, filename, sha256, status, result in rows:
            image = image_view(filename, sha256, Status(status), result)
            assert image.outcome is not None
            yield {**image_result(filename, sha256, image.outcome)}
        position = rows[-1][1] + 1

"""`captiond import`: its flags, and its progress."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from captiond.callbacks import BadUrl, check_callback_url
from captiond.cli.arguments import Config, Data, Device, Model, Set, between, setting, settings_from
from captiond.cli.bulk_arguments import OUTPUT_HELP, Sources, column_option, form_option
from captiond.cli.exits import EXIT_FAILED, cancelling_on_interrupt, print_error
from captiond.errors import SettingsError
from captiond.jobs import Status
from captiond.references.manifests import COLUMN
from captiond.settings.config import Settings

if TYPE_CHECKING:
    from captiond.store.shards import ImportState, NewImport

STOPPED = "captiond: stopped; the same command goes on with the shards that are not finished"


def import_images(
    sources: Sources,
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help=OUTPUT_HELP,
        ),
    ],
    form: Annotated[Literal["jsonl", "parquet"], form_option()] = "jsonl",
    column: Annotated[str, column_option()] = COLUMN,
    queue: Annotated[
        bool,
        typer.Option(
            "--queue",
            help="Only list the images. The service captions them when it has nothing else to do, "
            "on any node that can read them.",
        ),
    ] = False,
    callback_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="With --queue: URL that the service calls when the import is finished or "
            "cancelled. [webhooks] allow must list its host.",
        ),
    ] = None,
    shard_images: Annotated[
        int,
        typer.Option(
            callback=between(1, 10_000),
            help="Images of a shard. Its results are one file, and are written together.",
        ),
    ] = 500,
    config: Config = None,
    data: Data = None,
    model: Model = None,
    device: Device = None,
    precision: Annotated[str | None, setting("model", "precision", metavar="FORMAT")] = None,
    assignments: Set = None,
) -> None:
    """Caption millions of images in folders or buckets.

    The images are read where they are, and no copy of them is kept. This command captions them with
    models of its own; with --queue, a running service does. The same command goes on where an
    earlier one was stopped; on further hosts with the same database, it shares the work. The exit
    status is 1 if an image has no caption.

    Examples:

    - captiond import /photos --output captions
    - captiond import s3://bucket/photos --output s3://bucket/captions --format parquet
    - captiond import /photos --output captions --queue
    """
    from captiond.references.addresses import absolute_place
    from captiond.store.shards import NewImport

    flags: dict[str, dict[str, Any]] = {
        "model": {"name": model, "device": device, "precision": precision}
    }
    settings = settings_from(config, flags, data=data, assignments=assignments)
    check_output(output)
    check_callback(callback_url, settings, queue=queue)
    new = NewImport(
        f"import_{int(time.time())}_{secrets.token_hex(8)}",
        tuple(map(absolute_place, sources)),
        column,
        absolute_place(output),
        form,
        shard_images,
        time.time(),
        queue,
        callback_url,
    )
    try:
        with cancelling_on_interrupt():
            state = asyncio.run(work_at(new, settings))
    except KeyboardInterrupt:
        print_error(STOPPED)
        raise
    if queue and not state.status.terminal:
        typer.echo(queued(state))
        return
    typer.echo(summary(state))
    if state.failed or state.status is not Status.COMPLETED:
        raise typer.Exit(EXIT_FAILED)


def check_output(output: str) -> None:
    """Return if the database can store the name of this place.

    Raises:
        SettingsError: It cannot.
    """
    try:
        output.encode()
    except UnicodeEncodeError:
        shown = output.encode(errors="backslashreplace").decode()
        raise SettingsError(f"command line: --output: {shown}: must be UTF-8") from None


def check_callback(url: str | None, settings: Settings, *, queue: bool) -> None:
    """Return if the end of an import can be posted to this URL, or if there is none.

    Raises:
        SettingsError: It cannot.
    """
    if url is None:
        return
    if not queue:
        raise SettingsError(
            "command line: --callback-url needs --queue: the service calls the URL, not the command"
        )
    try:
        check_callback_url(url, settings.webhooks.allow)
    except BadUrl as error:
        raise SettingsError(f"command line: --callback-url: {error}") from None


async def work_at(new: "NewImport", settings: Settings) -> "ImportState":
    """Make the import, or join the one that writes to the same output.

    Work at it until it is finished, or only until its images are listed if it is queued.
    """
    from captiond.bulk.importing import ImportRun, queue_import, run_import
    from captiond.cli.database import created, has_database, opened
    from captiond.logs import set_up_logs
    from captiond.references.shard_files import ShardFiles
    from captiond.store.leases import readable
    from captiond.store.shards import join_import, other_output
    from captiond.supervisor.datafolder import provide_temporary_folder

    set_up_logs(settings.logs, process="import")
    files = ShardFiles(new.output, new.form)
    if not has_database(settings):
        os.umask(umask := os.umask(0))
        await created(settings)
        os.umask(umask)  # results are for others as well; the data folder is not
    if not new.queued:
        provide_temporary_folder(settings.data.dir)
    async with opened(settings) as engine:
        marked_by = await asyncio.to_thread(files.marked_by)
        if marked_by is not None and (name := await other_output(engine, marked_by, new.output)):
            raise SettingsError(
                f"{new.output}: the folder of {marked_by} under another name: {name}"
            )
        state = await join_import(engine, new)
        if state.status.terminal:
            return state
        owner = f"{readable(socket.gethostname())}-{os.getpid()}-{secrets.token_hex(8)}"
        with shown_progress() as show:
            run = ImportRun(engine, state, owner, files, show)
            return await (queue_import(run) if new.queued else run_import(run, settings))


@contextlib.contextmanager
def shown_progress() -> Iterator[Any]:
    """Yield what shows the state of an import: a bar on a terminal, and lines elsewhere."""
    from rich.console import Console

    from captiond.cli.captioning.progress import ProgressLines, progress_bar

    console = Console(stderr=True)
    lines = ProgressLines(console)
    with progress_bar(console, "images") as bar:
        task = bar.add_task("captioning", total=None)

        def show(state: "ImportState") -> None:
            bar.update(task, total=state.images or None, completed=state.done)
            more = "" if state.listed else " so far"
            lines.sometimes(f"{state.done} of {state.images}{more} done, {state.failed} failed")

        yield show


def queued(state: "ImportState") -> str:
    """Return what the service has to do, as a line."""
    return (
        f"{state.id}: {state.images} images queued in {state.shards} shards; "
        f"captiond imports show {state.id} shows how far the service is"
    )


def summary(state: "ImportState") -> str:
    """Return what came of an import, as a line."""
    return (
        f"{state.id}: {state.status.value}: {state.captioned} of {state.images} images captioned, "
        f"{state.failed} failed; results in {state.output}"
    )

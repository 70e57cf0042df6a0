"""The `captiond` command: its subcommands and their flags."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

from captiond import __version__
from captiond.cli.arguments import Config, Data, Device, Model, Set, between, setting, settings_from
from captiond.cli.calibrate_command import calibrate
from captiond.cli.caption_command import caption
from captiond.cli.completion_command import completion
from captiond.cli.config_command import config_app
from captiond.cli.db_command import db_app
from captiond.cli.exits import EXIT_FAILED, EXIT_STOPPED, EXIT_WRONG_USAGE, die_by, fail
from captiond.cli.export_command import export
from captiond.cli.import_command import import_images
from captiond.cli.imports_command import imports_app
from captiond.cli.keys_command import keys_app
from captiond.cli.plain_help import use_plain_help
from captiond.cli.pull_command import pull
from captiond.cli.ray_command import ray
from captiond.cli.streams import OutputFailed, writing_to
from captiond.cli.tasks_command import tasks_app
from captiond.docstrings import provide_docstrings
from captiond.errors import CaptiondError, SettingsError
from captiond.host.loopback import call_loopback_directly
from captiond.processes.collector import without_gc
from captiond.supervisor.datafolder import provide_temporary_folder

app = typer.Typer(
    name="captiond",
    help="Write captions and tags for images, as an HTTP service or from the command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)


def run() -> int:
    """Run the command line and return its exit status, unless a signal ends it."""
    # NumPy multiplies only the small matrices of tagging: more threads make that slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Child processes use huge pages. The kernel frees them faster when a process dies, and the
    # supervisor sees a death only when the memory is free.
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    # A thread of the model that waits for another one sleeps after a millisecond. GNU OpenMP lets
    # it spin fifteen times as long, and on a busy machine that takes the core from the other one.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    call_loopback_directly(os.environ)
    provide_docstrings()
    try:
        status = int(app(prog_name="captiond", standalone_mode=False) or 0)
        sys.stdout.flush()
    except OutputFailed as error:
        return fail(str(error), EXIT_FAILED)
    except BrokenPipeError:
        return EXIT_FAILED
    except TyperException as error:
        return fail(usage_text(error), EXIT_WRONG_USAGE)
    except SettingsError as error:
        return fail(str(error), EXIT_WRONG_USAGE)
    except CaptiondError as error:
        return fail(str(error), EXIT_FAILED)
    if status == EXIT_STOPPED:
        die_by(signal.SIGINT)
    return status


def usage_text(error: TyperException) -> str:
    """Return what is wrong with a command line, and where the right usage is.

    It is empty if there are no arguments at all: then the help has been printed.
    """
    text = " ".join(error.format_message().split()).rstrip(".")
    if not text:
        return ""
    if (option := getattr(error, "option_name", None)) and hasattr(error, "possibilities"):
        near = " or ".join(sorted(error.possibilities or ()))
        text = f"there is no option {option}" + (f", did you mean {near}?" if near else "")
    context = getattr(error, "ctx", None)
    where = f"; see {context.command_path} --help" if context else ""
    return f"command line: {text[:1].lower()}{text[1:]}{where}"


def show_version(*, value: bool) -> None:
    if value:
        typer.echo(f"captiond {__version__}")
        raise typer.Exit


@app.callback()
def captiond(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    *,
    config: Config = None,
    data: Data = None,
    host: Annotated[str | None, setting("server", "host", metavar="ADDRESS")] = None,
    port: Annotated[int | None, setting("server", "port")] = None,
    workers: Annotated[int | None, setting("server", "workers")] = None,
    model: Model = None,
    device: Device = None,
    log_level: Annotated[str | None, setting("logs", "level", metavar="LEVEL")] = None,
    no_model: Annotated[
        bool,
        typer.Option(
            "--no-model",
            help="Run no model. Other nodes caption; they share the database and the uploads.",
        ),
    ] = False,
    assignments: Set = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Restart when captiond's code changes, for development."),
    ] = False,
) -> None:
    """Serve captions and tags over HTTP until Ctrl-C, SIGTERM or the end of the terminal.

    The first signal lets the images in progress finish. A second one, at least a second later,
    stops at once. Accepted tasks continue at the next start in both cases.
    """
    with without_gc():
        from captiond.cli.serve_command import serve_forever

    flags: dict[str, dict[str, Any]] = {
        "server": {"host": host, "port": port, "workers": workers},
        "model": {"name": model, "device": device},
        "logs": {"level": log_level},
        "node": {"role": "web" if no_model else None},
    }
    settings = settings_from(config, flags, data=data, assignments=assignments)
    serve_forever(settings, reload=reload)


@app.command()
def worker(
    *,
    config: Config = None,
    data: Data = None,
    host: Annotated[str | None, setting("server", "host", metavar="ADDRESS")] = None,
    port: Annotated[int | None, setting("server", "port")] = None,
    model: Model = None,
    device: Device = None,
    log_level: Annotated[str | None, setting("logs", "level", metavar="LEVEL")] = None,
    assignments: Set = None,
) -> None:
    """Caption images that other nodes receive, until Ctrl-C, SIGTERM or the end of the terminal.

    The nodes share a PostgreSQL database and the uploads in object storage. Over HTTP, this node
    serves only /health, /livez, /readyz, /version and /metrics. Signals work as in captiond serve.
    """
    with without_gc():
        from captiond.cli.serve_command import serve_forever

    flags: dict[str, dict[str, Any]] = {
        "server": {"host": host, "port": port},
        "model": {"name": model, "device": device},
        "logs": {"level": log_level},
        "node": {"role": "worker"},
    }
    settings = settings_from(config, flags, data=data, assignments=assignments)
    serve_forever(settings, reload=False)


app.command()(caption)


@app.command()
def tags(
    captions: Annotated[
        list[str] | None,
        typer.Argument(metavar="CAPTION", help="Captions. Without any, they come from --file."),
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="File with one caption on each line. Default: -, which is standard input.",
        ),
    ] = None,
    config: Config = None,
    language: Annotated[str | None, setting("tags", "language", metavar="CODE")] = None,
    kinds: Annotated[str | None, setting("tags", "kinds", metavar="LIST")] = None,
    categories: Annotated[str | None, setting("tags", "categories", metavar="LIST")] = None,
    deny: Annotated[str | None, setting("tags", "deny", metavar="LIST")] = None,
    allow: Annotated[str | None, setting("tags", "allow", metavar="LIST")] = None,
    min_length: Annotated[int | None, setting("tags", "min_length")] = None,
    max_number: Annotated[int | None, setting("tags", "max_number")] = None,
    synonyms: Annotated[Path | None, setting("tags", "synonyms", metavar="FILE")] = None,
    assignments: Set = None,
) -> None:
    """Extract the tags of captions that you already have.

    The command needs neither a model nor a service. The output is one JSON object for each caption,
    in the order of the captions. The items of a LIST are separated by commas.
    """
    from captiond.cli.tags_command import print_tags

    chosen = {
        "language": language,
        "kinds": kinds,
        "categories": categories,
        "deny": deny,
        "allow": allow,
        "min_length": min_length,
        "max_number": max_number,
        "synonyms": synonyms,
    }
    settings = settings_from(config, {"tags": chosen}, assignments=assignments)
    print_tags(captions or [], file, settings)


@app.command()
def bench(
    *,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Measure fewer batch sizes and products, in fewer rounds."),
    ] = False,
    no_service: Annotated[
        bool, typer.Option("--no-service", help="Measure the engine only, not the HTTP service.")
    ] = False,
    rounds: Annotated[
        int | None,
        typer.Option(
            callback=between(1), help="How many times each figure is measured. Default: 5."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    shape: Annotated[
        Literal["base", "large"] | None,
        typer.Option(
            help="Measure random weights in the shape of BLIP base or large. Default: the model of "
            "the settings, or base if that is not on disk."
        ),
    ] = None,
    config: Config = None,
    data: Data = None,
    model: Model = None,
    device: Device = None,
    precision: Annotated[str | None, setting("model", "precision", metavar="FORMAT")] = None,
    assignments: Set = None,
) -> None:
    """Measure captiond on this machine, and suggest settings for it.

    The command measures captiond's engine, the library transformers on the same model, and how fast
    the hardware could be at best. It also measures the HTTP service under load.
    """
    flags = {"model": {"name": model, "device": device, "precision": precision}}
    settings = settings_from(config, flags, data=data, assignments=assignments)
    provide_temporary_folder(settings.data.dir)
    with without_gc():
        from captiond.cli.bench_command import BenchOptions  # imports torch
        from captiond.cli.bench_command import bench as measure

    options = BenchOptions(shape, model is not None, rounds, quick, not no_service)
    measure(settings, options, as_json=json)


@app.command()
def tune(
    *,
    config: Config = None,
    data: Data = None,
    model: Model = None,
    device: Device = None,
    assignments: Set = None,
) -> None:
    """Measure how the model computes fastest on this machine, and remember it.

    A service does the same at its first start. The exit status is 1 if the machine was too busy
    for a reliable result.
    """
    chosen = {"model": {"name": model, "device": device}}
    settings = settings_from(config, chosen, data=data, assignments=assignments)
    provide_temporary_folder(settings.data.dir)
    with without_gc():
        from captiond.cli.tune_command import tune as measure  # this imports torch

    if not measure(settings):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def check(
    *,
    config: Config = None,
    data: Data = None,
    host: Annotated[str | None, setting("server", "host", metavar="ADDRESS")] = None,
    port: Annotated[int | None, setting("server", "port")] = None,
    model: Model = None,
    device: Device = None,
    assignments: Set = None,
) -> None:
    """Check the address, the data folder, the models and the tag pipelines.

    Each part gets one line, which says how to repair what is wrong. The last line is the verdict.
    The exit status is 1 if captiond could not serve captions and tags. Nothing is changed, so the
    service may run meanwhile. Give the same flags as to serve.
    """
    flags: dict[str, dict[str, Any]] = {
        "server": {"host": host, "port": port},
        "model": {"name": model, "device": device},
    }
    settings = settings_from(config, flags, data=data, assignments=assignments)
    provide_temporary_folder(settings.data.dir)
    with without_gc():
        from captiond.cli.check_command import check as check_parts  # this imports torch

    if not check_parts(settings):
        raise typer.Exit(EXIT_FAILED)


app.command()(pull)
app.command()(calibrate)
app.command("import")(import_images)
app.command()(export)
app.command()(ray)


@app.command()
def openapi(
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the document to this file."),
    ] = None,
) -> None:
    """Print the OpenAPI document of the HTTP API.

    A running service has the same document at /openapi.json. The command needs no service, no model
    and no settings.
    """
    from captiond.cli.openapi_command import openapi_text

    text = openapi_text()
    if output is None:
        typer.echo(text)
    else:
        with writing_to(output):
            output.write_text(text + "\n", "utf-8")


app.command()(completion)
app.add_typer(tasks_app, name="tasks")
app.add_typer(imports_app, name="imports")
app.add_typer(keys_app, name="keys")
app.add_typer(db_app, name="db")

app.add_typer(config_app, name="config")
use_plain_help(app)

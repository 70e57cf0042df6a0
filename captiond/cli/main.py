"""The `captiond` command: its subcommands and their flags."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from captiond import __version__
from captiond.cli.arguments import (
    Config,
    Data,
    Device,
    Model,
    Set,
    layers_from,
    setting,
    settings_from,
)
from captiond.cli.db_command import db_app
from captiond.cli.keys_command import keys_app
from captiond.cli.tasks_command import tasks_app
from captiond.errors import CaptiondError, SettingsError
from captiond.sources import KEY_VARIABLE, URL_VARIABLE, checked, origins
from captiond.supervisor.datafolder import provide_temporary_folder

EXIT_FAILED, EXIT_WRONG_SETTING, EXIT_STOPPED = 1, 2, 130

app = typer.Typer(
    name="captiond",
    help="Write captions and tags for images, as an HTTP service or from the command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)


def run() -> int:
    """Run the command line and return its exit status, unless typer exits by itself."""
    # NumPy multiplies only the small matrices of tagging: more threads make that slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Child processes use huge pages. The kernel frees them faster when a process dies, and the
    # supervisor sees a death only when the memory is free.
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    try:
        app(prog_name="captiond")
    except SettingsError as error:
        return fail(str(error), EXIT_WRONG_SETTING)
    except CaptiondError as error:
        return fail(str(error), EXIT_FAILED)
    return 0


def fail(message: str, status: int) -> int:
    """Print a message to standard error and return `status`."""
    for line in message.splitlines():
        typer.echo(f"captiond: {line}", err=True)
    return status


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
    assignments: Set = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Restart when captiond's code changes, for development."),
    ] = False,
) -> None:
    """Serve captions and tags over HTTP until Ctrl-C or SIGTERM.

    The first signal lets the images in progress finish. A second one stops at once. Accepted tasks
    continue at the next start in both cases.
    """
    from captiond.cli.serve_command import serve_forever

    flags: dict[str, dict[str, Any]] = {
        "server": {"host": host, "port": port, "workers": workers},
        "model": {"name": model, "device": device},
        "logs": {"level": log_level},
    }
    settings = settings_from(config, flags, data=data, assignments=assignments)
    serve_forever(settings, reload=reload)


@app.command()
def caption(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Image files, and folders of image files."),
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON object for each line.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar=URL_VARIABLE,
            help="Let the service at this address caption the files, instead of this process.",
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the key for the service at --url. Default: the key in the environment "
            f"variable {KEY_VARIABLE}, if it is set.",
        ),
    ] = None,
    config: Config = None,
    data: Data = None,
    model: Model = None,
    device: Device = None,
    prompt: Annotated[str | None, setting("generation", "prompt", metavar="TEXT")] = None,
    num_beams: Annotated[int | None, setting("generation", "num_beams")] = None,
    max_new_tokens: Annotated[int | None, setting("generation", "max_new_tokens")] = None,
    min_new_tokens: Annotated[int | None, setting("generation", "min_new_tokens")] = None,
    repetition_penalty: Annotated[float | None, setting("generation", "repetition_penalty")] = None,
    no_repeat_ngram_size: Annotated[
        int | None, setting("generation", "no_repeat_ngram_size")
    ] = None,
    context: Annotated[str | None, setting("generation", "context", metavar="TEXT")] = None,
    assignments: Set = None,
) -> None:
    """Caption and tag image files, in this process or by a service.

    In a folder, all images are captioned, but no hidden files. On a terminal the results are text
    for people, in a pipe they are JSON lines. The exit status is 1 if an image has no caption.
    """
    from captiond.cli.captioning.command import caption_paths
    from captiond.cli.formats import Format, pick_format

    chosen = pick_format({Format.JSON: json, Format.JSONL: jsonl, Format.CSV: csv})
    generation = {
        "prompt": prompt,
        "num_beams": num_beams,
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": min_new_tokens,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "context": context,
    }
    flags: dict[str, dict[str, Any]] = {
        "model": {"name": model, "device": device},
        "generation": generation,
    }
    if url is not None:
        from captiond.cli.captioning.service_flags import service_captioner

        others = {"model": model, "device": device, "set": assignments}
        captioner = service_captioner(url, key_file, generation, others)
    else:
        settings = settings_from(config, flags, data=data, assignments=assignments)
        provide_temporary_folder(settings.data.dir)
        from captiond.cli.captioning.in_process import in_process  # this imports torch

        captioner = in_process(settings)
    if not caption_paths(paths, captioner, chosen):
        raise typer.Exit(EXIT_FAILED)


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
            help="File with one caption in each line. - is standard input, and the default.",
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
        bool, typer.Option("--quick", help="Measure fewer batch sizes, in fewer rounds.")
    ] = False,
    no_service: Annotated[
        bool, typer.Option("--no-service", help="Measure the engine only, not the HTTP service.")
    ] = False,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="How many times each figure is measured. Default: 5."),
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

    The command compares captiond's engine with generate of transformers, and with the least time
    that the hardware allows. It also measures the HTTP service under load.
    """
    flags = {"model": {"name": model, "device": device, "precision": precision}}
    settings = settings_from(config, flags, data=data, assignments=assignments)
    provide_temporary_folder(settings.data.dir)
    from captiond.cli.bench_command import BenchOptions  # imports torch
    from captiond.cli.bench_command import bench as measure

    options = BenchOptions(shape, model is not None, rounds, quick, not no_service)
    try:
        measure(settings, options, as_json=json)
    except KeyboardInterrupt:
        raise typer.Exit(fail("stopped", EXIT_STOPPED)) from None


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
    from captiond.cli.tune_command import tune as measure  # this imports torch

    if not measure(settings):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def check(*, config: Config = None, data: Data = None, assignments: Set = None) -> None:
    """Check the data folder, the models and the tag pipelines.

    Each part gets one line, which says how to repair what is wrong. The exit status is 1 if
    captiond could not write captions and tags.
    """
    settings = settings_from(config, {}, data=data, assignments=assignments)
    from captiond.cli.check_command import check as check_parts  # this imports torch

    if not check_parts(settings):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Name of the model on the hub. Default: the model of the settings.",
        ),
    ] = None,
    *,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Download a model from the Hugging Face hub, so that the service can start offline."""
    from captiond.captioners.files import fetch

    flags = {"model": {"name": name}}
    settings = settings_from(config, flags, data=data, assignments=assignments)
    typer.echo(fetch(settings, settings.model.name))


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
        output.write_text(text + "\n", "utf-8")


app.add_typer(tasks_app, name="tasks")
app.add_typer(keys_app, name="keys")
app.add_typer(db_app, name="db")

config_app = typer.Typer(no_args_is_help=True, help="Show the settings.")
app.add_typer(config_app, name="config")


@config_app.command()
def show(
    *,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the values, as one JSON object.")
    ] = False,
) -> None:
    """Print every setting with its source, in the form of a settings file."""
    from captiond.cli.formats import settings_as_toml

    layers = layers_from(config, {}, data=data, assignments=assignments)
    if as_json:
        typer.echo(checked(layers).model_dump_json(indent=2))
    else:
        typer.echo(settings_as_toml(origins(layers)))

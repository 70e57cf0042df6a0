"""The `captiond` command: argv to settings, settings to one of the commands."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from captiond import __version__
from captiond.cli.arguments import Config, Data, Set, layers_from, settings_from
from captiond.cli.db_command import db_app
from captiond.cli.tasks_command import tasks_app
from captiond.config import checked, origins
from captiond.errors import CaptiondError, SettingsError

EXIT_FAILED, EXIT_WRONG_SETTING, EXIT_STOPPED = 1, 2, 130

app = typer.Typer(
    name="captiond",
    help="Captions and tags for images: a service, and a command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A hub name, a folder, or captiond/scenes."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, or cuda:0,cuda:1.")]


def run() -> int:
    """Run the command line; the exit status, unless typer exits by itself."""
    # Of NumPy, which only tags ask for products of small matrices: more threads only wait there.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Of the processes started from here: what is in huge pages is given back the sooner when one
    # dies, and until it is given back nobody sees the death.
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    try:
        app()
    except SettingsError as error:
        return fail(str(error), EXIT_WRONG_SETTING)
    except CaptiondError as error:
        return fail(str(error), EXIT_FAILED)
    return 0


def fail(message: str, status: int) -> int:
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
        typer.Option("--version", callback=show_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    *,
    config: Config = None,
    data: Data = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Web processes.")] = None,
    model: Model = None,
    device: Device = None,
    assignments: Set = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart when the code changes.")
    ] = False,
) -> None:
    """Serve captions over HTTP until Ctrl-C or SIGTERM, then finish what is in hand."""
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
    paths: Annotated[list[Path], typer.Argument(metavar="FILES|FOLDERS...")],
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="A JSON object a line.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    config: Config = None,
    data: Data = None,
    model: Model = None,
    device: Device = None,
    prompt: Annotated[str | None, typer.Option(help="What every caption begins with.")] = None,
    num_beams: Annotated[int | None, typer.Option(help="1 is greedy search.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest caption.")] = None,
    min_new_tokens: Annotated[int | None, typer.Option(help="Shortest caption.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Against repetition.")] = None,
    assignments: Set = None,
) -> None:
    """Caption files here and now: for people on a terminal, JSON lines in a pipe."""
    from captiond.cli.caption_command import caption_files
    from captiond.cli.formats import Format, pick_format

    flags: dict[str, dict[str, Any]] = {
        "model": {"name": model, "device": device},
        "generation": {
            "prompt": prompt,
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "repetition_penalty": repetition_penalty,
        },
    }
    settings = settings_from(config, flags, data=data, assignments=assignments)
    given = {Format.JSON: json, Format.JSONL: jsonl, Format.CSV: csv}
    if not caption_files(paths, settings, pick_format(given)):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def tags(
    captions: Annotated[list[str] | None, typer.Argument(metavar="[CAPTIONS...]")] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="Captions, one a line; - or none: stdin."
        ),
    ] = None,
    config: Config = None,
    language: Annotated[str | None, typer.Option(help="Of the captions.")] = None,
    kinds: Annotated[str | None, typer.Option(help="phrase,noun,adjective: some of them.")] = None,
    categories: Annotated[str | None, typer.Option(help="person,animal,… alone.")] = None,
    deny: Annotated[
        str | None, typer.Option(help="Tags and lemmas not to give, as tennis*.")
    ] = None,
    allow: Annotated[str | None, typer.Option(help="Tags and lemmas to give alone.")] = None,
    min_length: Annotated[int | None, typer.Option(help="Fewest characters of a tag.")] = None,
    max_number: Annotated[int | None, typer.Option(help="Most tags of a caption; 0: all.")] = None,
    synonyms: Annotated[Path | None, typer.Option(help="A file of automobile = car lines.")] = None,
) -> None:
    """Tag captions that are there already: JSON lines, in their order."""
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
    print_tags(captions or [], file, settings_from(config, {"tags": chosen}))


@app.command()
def bench(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Few sizes and rounds.")] = False,
    no_service: Annotated[bool, typer.Option("--no-service", help="The engine alone.")] = False,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Each thing is measured so often; default: 5.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    shape: Annotated[
        Literal["base", "large"] | None,
        typer.Option(help="Random weights of BLIP's shape; base where the model is not on disk."),
    ] = None,
    config: Config = None,
    data: Data = None,
    model: Model = None,
    device: Device = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, fp16, bf16, int8.")] = None,
    assignments: Set = None,
) -> None:
    """Measure what this machine can do: engine, service, and how far from the floor they are."""
    from captiond.cli.bench_command import BenchOptions
    from captiond.cli.bench_command import bench as measure

    flags = {"model": {"name": model, "device": device, "precision": precision}}
    settings = settings_from(config, flags, data=data, assignments=assignments)
    options = BenchOptions(shape, model is not None, rounds, quick, not no_service)
    try:
        measure(settings, options, as_json=json)
    except KeyboardInterrupt:
        raise typer.Exit(fail("stopped", EXIT_STOPPED)) from None


@app.command()
def check(*, config: Config = None, data: Data = None) -> None:
    """Check data folder, model and tag pipelines; say how to mend what is wrong."""
    from captiond.cli.check_command import check as check_parts

    if not check_parts(settings_from(config, {}, data=data)):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def pull(
    name: Annotated[str | None, typer.Argument(metavar="[MODEL]")] = None,
    *,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Fetch a model from the hub into the cache, so that the service can start without it."""
    from captiond.captioners.files import fetch

    flags = {"model": {"name": name}}
    settings = settings_from(config, flags, data=data, assignments=assignments)
    typer.echo(fetch(settings, settings.model.name))


app.add_typer(tasks_app, name="tasks")
app.add_typer(db_app, name="db")

config_app = typer.Typer(no_args_is_help=True, help="The settings in force.")
app.add_typer(config_app, name="config")


@config_app.command()
def show(
    *,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Values alone, as JSON.")] = False,
) -> None:
    """Print every setting in force, and where it came from."""
    from captiond.cli.formats import settings_as_toml

    layers = layers_from(config, {}, data=data, assignments=assignments)
    if as_json:
        typer.echo(checked(layers).model_dump_json(indent=2))
    else:
        typer.echo(settings_as_toml(origins(layers)))

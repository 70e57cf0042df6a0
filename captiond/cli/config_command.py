"""`captiond config`: show the settings in force, and write a settings file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from captiond.cli.arguments import Config, Data, Set, layers_from
from captiond.errors import SettingsError
from captiond.settings.sources import checked, origins

config_app = typer.Typer(no_args_is_help=True, help="Show the settings, or write a settings file.")
PACKAGE = Path(__file__).resolve().parent.parent
SAMPLE = "captiond.toml"


@config_app.command()
def show(
    *,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Print only settings that differ from the default.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print only the values, as one JSON object.")
    ] = False,
) -> None:
    """Print every setting with its source, in the form of a settings file.

    A setting that differs from its default is marked with <-, followed by its source and the
    default.
    """
    from captiond.cli.formats import json_text, settings_as_toml

    layers = layers_from(config, {}, data=data, assignments=assignments)
    if as_json:
        typer.echo(json_text(checked(layers).model_dump(mode="json"), indent=2))
        return
    settings = [each for each in origins(layers) if each.differs or not changed]
    typer.echo(settings_as_toml(settings, coloured=sys.stdout.isatty()))


@config_app.command("init")
def write_sample(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The settings file to write.")
    ] = Path(SAMPLE),
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Write a settings file that has every setting with its default and an explanation.

    A command reads captiond.toml in the current folder, or the file that --config names.
    """
    try:
        with file.open("wb" if force else "xb") as out:
            out.write(sample_file().read_bytes())
    except FileExistsError as error:
        raise SettingsError(
            f"{file} exists; choose another name, or replace it with --force"
        ) from error
    except OSError as error:
        raise SettingsError(f"{file}: cannot be written: {error.strerror}") from error
    typer.echo(f"{file}: written; captiond config show shows the settings in force", err=True)


def sample_file() -> Path:
    """Return the commented settings file: in an installed package, or beside it in a checkout."""
    shipped = PACKAGE / SAMPLE
    return shipped if shipped.is_file() else PACKAGE.parent / SAMPLE

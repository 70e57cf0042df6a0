"""Flags that several commands share, and the settings that result from them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from captiond.cli.described import described
from captiond.errors import SettingsError
from captiond.settings.config import Settings
from captiond.settings.sources import Layer, checked, layers_of, sections

Number = TypeVar("Number", int, float)
USUAL_LIMIT, MOST_LISTED = 20, 10_000
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        readable=False,  # captiond checks it, and says what to do
        help="Settings file. Default: the file that CAPTIOND_CONFIG names, else captiond.toml in "
        "the current folder if it exists.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        readable=False,  # as above
        help="Data folder: the database, the spool of uploaded files, downloaded models.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Any other setting, for example --set limits.files=50. May be repeated.",
    ),
]


def setting(section: str, key: str, *, metavar: str | None = None) -> Any:
    """Return the flag of a setting. Its help is the setting's description."""
    return typer.Option(metavar=metavar, help=described(sections()[section], key))


def between(least: float, most: float | None = None) -> Callable[[Number | None], Number | None]:
    """Return a callback that refuses a number below `least` or above `most`.

    Typer's own bounds appear in the help as `[1<=x<=10]`.
    """

    def checked_number(value: Number | None) -> Number | None:
        if value is not None and (value < least or (most is not None and value > most)):
            bounds = f"between {least:g} and {most:g}" if most is not None else f"{least:g} or more"
            raise typer.BadParameter(f"{value} is not {bounds}")
        return value

    return checked_number


def limit_option(kind: str) -> Any:
    """Return the flag `--limit` of a command that lists the newest of a kind, such as tasks."""
    return typer.Option(
        callback=between(1, MOST_LISTED),
        help=f"Largest number of {kind} to list, at most {MOST_LISTED}.",
    )


Model = Annotated[str | None, setting("model", "name", metavar="NAME")]
Device = Annotated[str | None, setting("model", "device", metavar="DEVICE")]


def layers_from(
    config: Path | None,
    flags: dict[str, dict[str, Any]],
    *,
    data: Path | None = None,
    assignments: list[str] | None = None,
) -> list[Layer]:
    """Return the sources of settings of a command with these flags.

    `config` is `--config`, `data` is `--data-dir`, `assignments` are the values of `--set`.
    `flags[section][key]` are the values of the other flags, None where a flag was not given.

    Raises:
        SettingsError: the file cannot be read, or an assignment is malformed.
    """
    named = config or (Path(path) if (path := os.environ.get("CAPTIOND_CONFIG")) else None)
    # Path.is_file raises in a folder that this user cannot enter, such as the home of another one.
    here = "captiond.toml"
    file = named or (Path(here) if os.path.isfile(here) else None)  # noqa: PTH113
    flags = {**flags, "data": {"dir": data}}
    for assignment in assignments or []:
        section, key, value = parse_assignment(assignment)
        flags.setdefault(section, {})[key] = value
    return layers_of(file, os.environ, flags)


def settings_from(
    config: Path | None,
    flags: dict[str, dict[str, Any]],
    *,
    data: Path | None = None,
    assignments: list[str] | None = None,
) -> Settings:
    """Return the checked settings of a command with these flags, see `layers_from`.

    Raises:
        SettingsError: settings are wrong.
    """
    return checked(layers_from(config, flags, data=data, assignments=assignments))


def parse_assignment(text: str) -> tuple[str, str, str]:
    """Return section, key and value of `server.port=80`. A key may be `pipelines.en`.

    Raises:
        SettingsError: the text does not have this form.
    """
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise SettingsError(f"command line: --set {name}{equals}…: must be SECTION.KEY=VALUE")
    return section, key, value.strip()

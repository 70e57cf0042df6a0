"""What every command takes: a settings file, a data folder, assignments; and the settings of it."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from captiond.config import Settings
from captiond.errors import SettingsError
from captiond.sources import Layer, checked, layers_of

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Settings; default: captiond.toml if it is here."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Database, spool and downloaded models."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting; repeatable."),
]


def layers_from(
    config: Path | None,
    flags: dict[str, dict[str, Any]],
    *,
    data: Path | None = None,
    assignments: list[str] | None = None,
) -> list[Layer]:
    """The sources of settings of a command that was given `--config`, `--set` and these flags."""
    named = config or (Path(path) if (path := os.environ.get("CAPTIOND_CONFIG")) else None)
    here = Path("captiond.toml")
    file = named or (here if here.is_file() else None)
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
    """The checked settings of those sources."""
    return checked(layers_from(config, flags, data=data, assignments=assignments))


def parse_assignment(text: str) -> tuple[str, str, str]:
    """`server.port=80` as section, key and value.

    Raises:
        SettingsError: it has not that form.
    """
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise SettingsError(f"command line: --set {text}: must be SECTION.KEY=VALUE")
    return section, key, value.strip()

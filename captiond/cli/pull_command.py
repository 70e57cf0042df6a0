"""`captiond pull`: download a model from the hub."""

from pathlib import Path
from typing import Annotated

import typer

from captiond.cli.arguments import Config, Data, Set, settings_from
from captiond.config import Settings
from captiond.errors import ModelMissing

HELP = (
    "No download is needed if the folder of a model is at hand: copy it from another machine and "
    "set [model] name to it, or copy a whole folder of downloaded models and set [model] cache. "
    "If there is a mirror of the hub, name it: HF_ENDPOINT=https://mirror.example captiond pull"
)


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
    """Download a model from the Hugging Face hub, so that the service can start offline.

    A download that was stopped goes on where it was. Standard output gets the folder of the model.
    """
    flags = {"model": {"name": name}}
    settings = settings_from(config, flags, data=data, assignments=assignments)
    typer.echo(pulled(settings))


def pulled(settings: Settings) -> Path:
    """Return the folder of the model, which is downloaded if it has to be.

    Raises:
        ModelMissing: it cannot be downloaded. The message says what to do instead.
    """
    from captiond.captioners.files import EMBEDDED, fetch, is_folder, locate

    name = settings.model.name
    if name in EMBEDDED or is_folder(name):
        folder = locate(settings, name, download=False)
        why = "is shipped with captiond" if name in EMBEDDED else "is a folder on this machine"
        typer.echo(f"captiond: {name} {why}; there is nothing to download", err=True)
        return folder
    try:
        return fetch(settings, name)
    except ModelMissing as error:
        raise ModelMissing(f"{error}\n{HELP}") from error

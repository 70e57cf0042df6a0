"""`captiond pull`: download a model from the hub."""

from pathlib import Path
from typing import Annotated

import typer

from captiond.cli.arguments import Config, Data, Set, settings_from
from captiond.errors import ModelMissing
from captiond.settings.config import Settings


def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Name of the model on the hub. Default: the models of the settings, with those "
            "for translation.",
        ),
    ] = None,
    *,
    config: Config = None,
    data: Data = None,
    assignments: Set = None,
) -> None:
    """Download a model from the Hugging Face hub, so that the service can start offline.

    A download that was stopped goes on where it was. Standard output gets the folder of each model.
    """
    flags = {"model": {"name": name}}
    settings = settings_from(config, flags, data=data, assignments=assignments)
    typer.echo(pulled(settings))
    if name is None:
        for further in dict.fromkeys(settings.translation.models.values()):
            model = settings.model.model_copy(update={"name": further, "revision": None})
            typer.echo(pulled(settings.model_copy(update={"model": model})))


def pulled(settings: Settings) -> Path:
    """Return the folder of the model, which is downloaded if it has to be.

    Raises:
        ModelMissing: it cannot be downloaded. The message says what to do instead.
    """
    from captiond.captioners.files import EMBEDDED, fetch, is_folder, locate
    from captiond.logs import set_up_logs

    name = settings.model.name
    if name in EMBEDDED or is_folder(name):
        folder = locate(settings, name, download=False)
        why = "is shipped with captiond" if name in EMBEDDED else "is a folder on this machine"
        typer.echo(f"captiond: {name} {why}; there is nothing to download", err=True)
        return folder
    set_up_logs(settings.logs.model_copy(update={"level": "warning"}), process="pull")
    typer.echo(f"captiond: downloading {name} to {settings.model_cache}", err=True)
    try:
        return fetch(settings, name)
    except ModelMissing as error:
        raise ModelMissing(without_hub(settings, str(error.__cause__ or error))) from error


def without_hub(settings: Settings, problem: str) -> str:
    """Return what can be done if a model cannot be downloaded."""
    from huggingface_hub.constants import ENDPOINT

    name, cache = settings.model.name, settings.model_cache
    reason = (problem.strip().splitlines() or ["no reason given"])[0].rstrip(".")
    return "\n".join(
        (
            f"{name} cannot be downloaded from {ENDPOINT}: {reason}",
            "what you can do:",
            f"- check the name of the model, and the network, then run: captiond pull {name}",
            f"- use a mirror of the hub: HF_ENDPOINT=https://MIRROR captiond pull {name}",
            f"- run captiond pull {name} on another machine, and copy its folder of models to "
            f"{cache}",
            "- copy the folder of a model here, and set [model] name to this folder",
            "- use captiond/scenes, which is shipped with captiond, for drawn scenes",
        )
    )

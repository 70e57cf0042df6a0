"""`captiond ray`: its flags."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal

import typer

from captiond.cli.arguments import Config, Data, Device, Model, Set, between, setting, settings_from
from captiond.cli.bulk_arguments import OUTPUT_HELP, Sources, column_option, form_option
from captiond.cli.exits import cleaning_up_on_interrupt, print_error
from captiond.errors import SettingsError
from captiond.references.manifests import COLUMN

NO_RAY = "captiond ray needs the extra captiond[ray]: pip install 'captiond[ray]'"
STOPPED = "captiond: stopped; the same command goes on with the images that have no result yet"
JOB_PANEL = "Job"


def ray(
    sources: Sources,
    output: Annotated[str, typer.Argument(metavar="OUT", help=OUTPUT_HELP)],
    *,
    form: Annotated[
        Literal["parquet", "jsonl"], form_option(rich_help_panel=JOB_PANEL)
    ] = "parquet",
    column: Annotated[str, column_option(rich_help_panel=JOB_PANEL)] = COLUMN,
    rows: Annotated[
        int,
        typer.Option(
            callback=between(1),
            help="Approximate number of results in a file.",
            rich_help_panel=JOB_PANEL,
        ),
    ] = 1000,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Cluster of Ray, such as ray://head:10001. auto: the cluster that this machine "
            "belongs to. Default: a cluster of this machine alone, for this command.",
            rich_help_panel=JOB_PANEL,
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            callback=between(1),
            help="Number of actors, each with a model. If there are fewer GPUs, they share them. "
            "Default: one for each GPU, or for each machine if there is no GPU.",
            rich_help_panel=JOB_PANEL,
        ),
    ] = None,
    cpus: Annotated[
        float | None,
        typer.Option(
            callback=between(0.0),
            help="Number of cores of an actor: for decoding, and without a GPU for the model, too. "
            "Default: its share of all.",
            rich_help_panel=JOB_PANEL,
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            callback=between(1, 4096),
            help="Images that Ray gives to an actor at a time.",
            rich_help_panel=JOB_PANEL,
        ),
    ] = 64,
    config: Config = None,
    data: Data = None,
    model: Model = None,
    device: Device = None,
    precision: Annotated[str | None, setting("model", "precision", metavar="FORMAT")] = None,
    assignments: Set = None,
) -> None:
    """Caption millions of images in folders or buckets, on a cluster of Ray.

    The images are read where they are, and no copy of them is kept. The same command goes on where
    an earlier one was stopped. An image that cannot be captioned has an error in its row.

    Examples:

    - captiond ray s3://bucket/photos s3://bucket/captions --address auto
    - captiond ray images.parquet captions --format jsonl
    """
    if find_spec("ray") is None:
        raise SettingsError(NO_RAY)
    flags: dict[str, dict[str, Any]] = {
        "model": {"name": model, "device": device, "precision": precision}
    }
    settings = settings_from(config, flags, data=data, assignments=assignments)
    from captiond.ray.caption_job import CaptionJob, run_job

    job = CaptionJob(sources, output, column, form, address, actors, cpus, batch, rows)
    try:
        with cleaning_up_on_interrupt():
            run_job(job, settings)
    except KeyboardInterrupt:
        print_error(STOPPED)
        raise

"""`captiond caption`: its flags, and what they mean together."""

from pathlib import Path
from typing import Annotated, Any

import typer

from captiond.cli.arguments import Config, Data, Device, Model, Set, setting, settings_from
from captiond.cli.captioning.result_choices import SidecarKind, TextContent, XmpName
from captiond.cli.exits import EXIT_FAILED, cleaning_up_on_interrupt
from captiond.processes.collector import without_gc
from captiond.settings.sources import KEY_VARIABLE, URL_VARIABLE

MODEL_PANEL, RESULT_PANEL, BESIDE_PANEL = "Model and service", "Output", "Files beside the images"
AGAIN_PANEL = "Images that have a result already"


def caption(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Image files, and folders of image files."),
    ],
    *,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON array.", rich_help_panel=RESULT_PANEL)
    ] = False,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl", help="Print one JSON object for each line.", rich_help_panel=RESULT_PANEL
        ),
    ] = False,
    csv: Annotated[
        bool,
        typer.Option("--csv", help="Print comma-separated values.", rich_help_panel=RESULT_PANEL),
    ] = False,
    bom: Annotated[
        bool,
        typer.Option(
            "--bom",
            help="Begin CSV with a byte order mark. Excel needs it to recognise UTF-8.",
            rich_help_panel=RESULT_PANEL,
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the results to this file instead, - is standard output. Without --json, "
            "--jsonl or --csv, its extension decides the format.",
            rich_help_panel=RESULT_PANEL,
        ),
    ] = None,
    sidecar: Annotated[
        list[SidecarKind] | None,
        typer.Option(
            help="Write the result to a file beside each image: photo.txt for training sets, "
            "photo.json, or photo.jpg.xmp for photo programs. May be repeated.",
            rich_help_panel=BESIDE_PANEL,
        ),
    ] = None,
    embed: Annotated[
        bool,
        typer.Option(
            "--embed",
            help="Write caption and tags into the metadata of the JPEG, PNG, WebP and TIFF files.",
            rich_help_panel=BESIDE_PANEL,
        ),
    ] = False,
    text: Annotated[
        TextContent,
        typer.Option(
            help="What photo.txt contains: the caption, the tags, or both, separated by commas.",
            rich_help_panel=BESIDE_PANEL,
        ),
    ] = TextContent.CAPTION,
    prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Text that photo.txt begins with.", rich_help_panel=BESIDE_PANEL
        ),
    ] = "",
    suffix: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Text that photo.txt ends with.", rich_help_panel=BESIDE_PANEL
        ),
    ] = "",
    xmp_name: Annotated[
        XmpName,
        typer.Option(
            help="Name of a new XMP file. full is photo.jpg.xmp, as in digiKam and darktable. stem "
            "is photo.xmp, as in Lightroom. An XMP file of either name is used if it exists.",
            rich_help_panel=BESIDE_PANEL,
        ),
    ] = XmpName.FULL,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="Leave images that have a result as they are. This continues a run that was "
            "stopped.",
            rich_help_panel=AGAIN_PANEL,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Caption images that have a result again, and replace the results of captiond. "
            "What a person wrote into metadata stays.",
            rich_help_panel=AGAIN_PANEL,
        ),
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar=URL_VARIABLE,
            help="Let the service at this address caption the files, instead of this process.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the key for the service at --url. Default: the key in the environment "
            f"variable {KEY_VARIABLE}, if it is set.",
            rich_help_panel=MODEL_PANEL,
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
    language: Annotated[str | None, setting("translation", "language", metavar="CODE")] = None,
    vocabulary: Annotated[Path | None, setting("tags", "vocabulary", metavar="FILE")] = None,
    assignments: Set = None,
) -> None:
    """Caption and tag image files, in this process or through a service.

    In a folder, all images are captioned except hidden files. On a terminal the results are text
    for people, in a pipe they are JSON lines. The exit status is 1 if an image has no caption.

    Examples:

    - captiond caption photos --output photos.csv
    - captiond caption photos --sidecar xmp --skip-existing
    - captiond caption training --sidecar txt --text tags --prefix "my style, "
    """
    from captiond.cli.captioning.command import caption_paths
    from captiond.cli.captioning.destinations import TextSidecar
    from captiond.cli.captioning.result_options import Given, result_options
    from captiond.cli.formats import Format

    asked = {Format.JSON: json, Format.JSONL: jsonl, Format.CSV: csv}
    given = Given(
        formats=[chosen for chosen, is_asked in asked.items() if is_asked],
        bom=bom,
        output=output,
        sidecars=sidecar or [],
        embed=embed,
        text=TextSidecar(text, prefix, suffix),
        xmp_name=xmp_name,
        skip=skip_existing,
        overwrite=overwrite,
    )
    options = result_options(given)
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
        "tags": {"vocabulary": vocabulary},
        "translation": {"language": language},
    }
    if url is not None:
        from captiond.cli.captioning.service_flags import service_captioner, texts_of

        others = {"model": model, "device": device, "set": assignments}
        tags = vocabulary and texts_of(vocabulary)
        asked_for = {**generation, "caption_language": language, "vocabulary": tags}
        captioner = service_captioner(url, key_file, asked_for, others)
    else:
        from captiond.supervisor.datafolder import provide_temporary_folder

        settings = settings_from(config, flags, data=data, assignments=assignments)
        provide_temporary_folder(settings.data.dir)
        with without_gc():
            from captiond.cli.captioning.in_process import in_process  # this imports torch

        captioner = in_process(settings)
    with cleaning_up_on_interrupt():
        complete = caption_paths(paths, captioner, options)
    if not complete:
        raise typer.Exit(EXIT_FAILED)

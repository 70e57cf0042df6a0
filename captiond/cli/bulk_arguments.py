"""Arguments of the commands that caption millions of images by reference."""

from typing import Annotated, Any

import typer

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Folders, prefixes such as s3://bucket/photos, and lists of addresses: .parquet, "
        ".csv, .jsonl or .txt.",
    ),
]
OUTPUT_HELP = "Folder for the results, here or such as s3://bucket/captions."


def form_option(**more: Any) -> Any:
    """Return the flag `--format`."""
    return typer.Option("--format", help="Format of the files of results.", **more)


def column_option(**more: Any) -> Any:
    """Return the flag `--column`."""
    return typer.Option(metavar="NAME", help="Column of a list that has the addresses.", **more)

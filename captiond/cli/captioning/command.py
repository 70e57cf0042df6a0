"""The flow of `captiond caption`: find files, caption them, print the results."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.text import Text

from captiond.cli.captioning.picture_files import FoundFile, found_files
from captiond.cli.formats import Format, Show, printer

Result = Mapping[str, Any]
Captioner = Callable[[list[FoundFile], Console], AbstractContextManager[Iterable[list[Result]]]]
"""A way to caption files: yields the results of all files in their order, in lists of some."""


def caption_paths(paths: list[Path], caption: Captioner, chosen: Format) -> bool:
    """Caption image files and the images in folders. Return whether each of them has a caption.

    Standard output gets the results in order. Standard error gets a progress bar if it is a
    terminal, and a message if there is no image at all.
    """
    console = Console(stderr=chosen is not Format.PEOPLE)
    with console.status("looking for images"):
        files = list(found_files(paths))
    complete = bool(files)
    if not files:
        message = f"no images in {', '.join(map(str, paths))}"
        Console(stderr=True).print(Text(f"captiond: {printable(message)}"), soft_wrap=True)
    with (
        caption(files, console) as batches,
        progress_bar(console) as progress,
        printer_beside(progress, chosen) as show,
    ):
        bar = progress.add_task("captioning", total=len(files))
        for results in batches:
            for result in results:
                show(result)
                complete = complete and result["error"] is None
            progress.advance(bar, len(results))
    return complete


def progress_bar(console: Console) -> Progress:
    """Return a progress bar that is shown on a terminal only."""
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def printer_beside(progress: Progress, chosen: Format) -> AbstractContextManager[Show]:
    """Return what prints results while a progress bar is shown."""
    if chosen is Format.PEOPLE:
        return nullcontext(partial(show_for_people, progress.console))
    return printer(chosen, sys.stdout)


def show_for_people(console: Console, result: Result) -> None:
    """Print one result as text. File names may hold anything, also codes of the terminal."""
    console.print(Text(printable(result["image_path"]), style="bold"), soft_wrap=True)
    if result["error"] is not None:
        console.print(Text(f"  {printable(result['error'])}", style="red"), soft_wrap=True)
        return
    console.print(Text(f"  {result['caption']}"), soft_wrap=True)
    console.print(Text(f"  {', '.join(result['tags'])}", style="dim"), soft_wrap=True)


def printable(text: str) -> str:
    """Return text in which each character that a terminal would obey is written as an escape."""
    return "".join(escaped(text))


def escaped(text: str) -> Iterator[str]:
    for character in text:
        yield character if character.isprintable() else character.encode("unicode_escape").decode()


def unreadable_result(found: FoundFile, problem: str = "") -> dict[str, Any]:
    """Return the result of a file that cannot be read."""
    return failed_result(found.path, problem or found.problem, "unreadable_file")


def failed_result(path: Path, error: str, code: str) -> dict[str, Any]:
    """Return the result of a file without a caption."""
    return {"image_path": str(path), "caption": None, "tags": None, "error": error, "code": code}

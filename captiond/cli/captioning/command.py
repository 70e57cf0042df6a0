"""The flow of `captiond caption`: find files, caption them, print and write the results."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from captiond.cli.captioning.destinations import WrittenFile
from captiond.cli.captioning.picture_files import FoundFile, found_files
from captiond.cli.captioning.planning import Existing, WorkPlan, planned, reported
from captiond.cli.captioning.progress import progress_bar
from captiond.cli.captioning.result_options import ResultOptions
from captiond.cli.formats import Format, Show, printer
from captiond.photofiles.metadata_errors import NotWritten

Result = Mapping[str, Any]
Captioner = Callable[[list[FoundFile], Console], AbstractContextManager[Iterable[list[Result]]]]
"""A way to caption files: yields the results of all files in their order, in lists of some."""


@dataclass
class Tally:
    """How many images have a caption now, and how many have none."""

    done: int = 0
    failed: int = 0

    def add(self, result: Result) -> None:
        if result["error"] is None:
            self.done += 1
        else:
            self.failed += 1


def caption_paths(paths: list[Path], caption: Captioner, options: ResultOptions) -> bool:
    """Caption image files and the images in folders. Return whether each of them has a caption.

    Standard output gets the results in order, unless there is an output file. Standard error gets a
    progress bar and a summary if it is a terminal, and a message if there is nothing to do.

    Raises:
        SettingsError: there are results already, and it was not said what to do with them.
    """
    console = Console(stderr=shows_results_elsewhere(options))
    with console.status("looking for images"):
        found = list(found_files(paths))
        listed, output = (
            (options.output.lists, options.output.path) if options.output else (None, None)
        )
        plan = planned(found, options.destinations, options.existing, listed, output)
    if not found:
        say(f"no images in {', '.join(map(str, paths))}")
    elif not plan.files:
        say(f"all {plan.skipped} images have their results already")
    tally = Tally()
    try:
        caption_planned(plan, caption, options, console, tally)
    except KeyboardInterrupt:
        say(f"stopped; {tally.done} of {len(plan.files)} images have their results{hint(options)}")
        raise
    if console.is_terminal and plan.files:
        console.print(summary(plan, tally), highlight=False)
    return bool(found) and tally.failed == 0


def shows_results_elsewhere(options: ResultOptions) -> bool:
    """Return whether the progress bar is alone on its terminal."""
    return options.chosen is not Format.PEOPLE or options.output is not None


def caption_planned(
    plan: WorkPlan, caption: Captioner, options: ResultOptions, console: Console, tally: Tally
) -> None:
    """Caption the planned files, and pass each result on at once."""
    with (
        captioning(plan.files, caption, console) as batches,
        progress_bar(console, "images") as progress,
        result_printer(progress, options, plan.files) as show,
    ):
        shown = bool(plan.files)  # a bar of nothing would only look odd
        bar = progress.add_task("captioning", total=len(plan.files), visible=shown)
        images = iter(plan.files)
        for results in batches:
            for result in results:
                whole = written(next(images), result, options)
                show(whole)
                tally.add(whole)
            progress.advance(bar, len(results))


@contextmanager
def captioning(
    files: list[FoundFile], caption: Captioner, console: Console
) -> Iterator[Iterable[list[Result]]]:
    """Yield the results of the files. A model is needed only if one of them can be read."""
    if all(found.problem for found in files):
        yield [[problem_result(found)] for found in files]
        return
    with caption(files, console) as batches:
        yield batches


def written(found: FoundFile, result: Result, options: ResultOptions) -> Result:
    """Write a result wherever it can be written. Return it with the files and with the errors."""
    if result["error"] is not None or not options.destinations:
        return result
    files: list[WrittenFile] = []
    errors = [error for error in found.barred if error]
    for destination, bar in zip(options.destinations, found.barred, strict=True):
        if bar is not None:
            continue
        try:
            skip = options.existing is Existing.SKIP and destination.is_written(found.path)
            if not skip:
                files.append(destination.write(found.path, result))
        except NotWritten as error:
            errors.append(error)
    listed = [{"path": str(file.path), "kept": list(file.kept)} for file in files]
    if not errors:
        return {**result, "files": listed}
    message, code = reported(errors, found.path)
    return {**result, "error": message, "code": code, "files": listed}


@contextmanager
def result_printer(
    progress: Progress, options: ResultOptions, files: list[FoundFile]
) -> Iterator[Show]:
    """Yield what shows a result: in the output file, or on standard output."""
    if options.output is not None:
        if not files:
            yield show_nothing
            return
        with options.output.opened(file.path for file in files if not file.problem) as show:
            yield partial(show_beside, show, options.output.lists, progress.console)
    elif options.chosen is Format.PEOPLE:
        yield partial(show_for_people, progress.console)
    else:
        with printer(options.chosen, sys.stdout, bom=options.bom) as show:
            yield show


def show_nothing(_: Result) -> None:
    """Show no result: there is none."""


def show_beside(
    show: Show, is_kept: Callable[[Path], bool], console: Console, result: Result
) -> None:
    """Write a result to the output file. An error is printed as well.

    If the file keeps a caption of the image from an earlier run, an error does not join it.
    """
    if not is_kept(Path(result["image_path"])):
        show(result)
    if result["error"] is not None:
        line = f"captiond: {printable(result['image_path'])}: {printable(result['error'])}"
        console.print(Text(line), soft_wrap=True)


def show_for_people(console: Console, result: Result) -> None:
    """Print one result as text. File names may hold anything, also codes of the terminal."""
    console.print(Text(printable(result["image_path"]), style="bold"), soft_wrap=True)
    if result["caption"] is not None:
        console.print(Text(f"  {result['caption']}"), soft_wrap=True)
        console.print(Text(f"  {', '.join(result['tags'])}", style="dim"), soft_wrap=True)
    if result["error"] is not None:
        console.print(Text(f"  {printable(result['error'])}", style="red"), soft_wrap=True)
    for file in result.get("files", ()):
        kept = f"; kept what is there: {', '.join(file['kept'])}" if file["kept"] else ""
        line = f"  written to {printable(file['path'])}{kept}"
        console.print(Text(line, style="dim"), soft_wrap=True)


def summary(plan: WorkPlan, tally: Tally) -> str:
    """Return the numbers of a whole run as a sentence."""
    parts = [f"{tally.done} {'image' if tally.done == 1 else 'images'} captioned"]
    parts += [f"{plan.skipped} left as they were"] if plan.skipped else []
    parts += [f"{tally.failed} failed"] if tally.failed else []
    return ", ".join(parts)


def hint(options: ResultOptions) -> str:
    """Return how a run that was stopped goes on."""
    goes_on = options.output is not None or bool(options.destinations)
    return "; the same command with --skip-existing does the others" if goes_on else ""


def say(message: str) -> None:
    """Print a message to standard error."""
    Console(stderr=True).print(Text(f"captiond: {printable(message)}"), soft_wrap=True)


def printable(text: str) -> str:
    """Return text in which each character that a terminal would obey is written as an escape."""
    return "".join(escaped(text))


def escaped(text: str) -> Iterator[str]:
    for character in text:
        yield character if character.isprintable() else character.encode("unicode_escape").decode()


def problem_result(found: FoundFile, problem: str = "") -> dict[str, Any]:
    """Return the result of a file that is not captioned."""
    return failed_result(found.path, problem or found.problem, found.code)


def failed_result(path: Path, error: str, code: str) -> dict[str, Any]:
    """Return the result of a file without a caption."""
    return {"image_path": str(path), "caption": None, "tags": None, "error": error, "code": code}

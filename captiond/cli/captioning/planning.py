"""Which of the found files are captioned, given what has been written for them already."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from captiond.cli.captioning.destinations import Destination
from captiond.cli.captioning.picture_files import FoundFile
from captiond.errors import SettingsError
from captiond.photofiles.metadata_errors import NotWritten
from captiond.photofiles.replacement import may_write_to, real_path, remove_leftovers


class Existing(Enum):
    """What to do with images that have a result already."""

    REFUSE = "refuse"
    SKIP = "skip"
    OVERWRITE = "overwrite"


@dataclass(frozen=True, slots=True)
class WorkPlan:
    """The files to caption, and the number of those that need nothing."""

    files: list[FoundFile]
    skipped: int = 0


def planned(
    found: Sequence[FoundFile],
    destinations: Sequence[Destination],
    existing: Existing,
    is_listed: Callable[[Path], bool] | None,
    output: Path | None = None,
) -> WorkPlan:
    """Return what is to be captioned.

    `is_listed` says whether the file `output` has an image; both are None without one. An image for
    which nothing can be written gets the reason as its problem, before it costs any work.

    Raises:
        SettingsError: images have results, and it was not said what to do with them.
    """
    files: list[FoundFile] = []
    done = 0
    with_results: list[Path] = []
    for placed in files_with_places(found, destinations, output):
        if placed.problem:
            files.append(placed)
            continue
        file, written = looked_up(placed, destinations)
        if is_listed is not None:
            written.append(is_listed(file.path))
        if any(written) and existing is not Existing.OVERWRITE:
            with_results.append(file.path)
        barred = any(file.barred)
        is_done = bool(written) and all(written) and existing is Existing.SKIP
        if barred and (is_done or not written):
            files.append(with_problem(file))
        elif is_done:
            done += 1
        else:
            files.append(file)
    if with_results and existing is Existing.REFUSE:
        raise have_results(with_results, len(found))
    return WorkPlan(files, done)


def looked_up(file: FoundFile, destinations: Sequence[Destination]) -> tuple[FoundFile, list[bool]]:
    """Return which destinations have a result of a file, leaving out those that are barred.

    The file is returned as well, with the destinations that turn out to be barred.
    """
    barred: list[NotWritten | None] = []
    written: list[bool] = []
    for destination, bar in zip(destinations, file.barred, strict=True):
        found = bar
        if bar is None:
            try:
                written.append(destination.is_written(file.path))
            except NotWritten as error:
                found = error
        barred.append(found)
    return replace(file, barred=tuple(barred)), written


def with_problem(file: FoundFile) -> FoundFile:
    """Return a file that is not captioned because its result can be written nowhere."""
    problem, code = reported(filter(None, file.barred), file.path)
    return replace(file, problem=problem, code=code)


def reported(errors: Iterable[NotWritten], image: Path) -> tuple[str, str]:
    """Return what the result of an image says of errors, and the code of the first of them."""
    known = list(errors)
    return "; ".join(dict.fromkeys(error.about(image) for error in known)), known[0].code


def have_results(paths: Sequence[Path], total: int) -> SettingsError:
    return SettingsError(
        f"command line: {len(paths)} of {total} images have results already, the first is "
        f"{paths[0]}; --skip-existing leaves these as they are, --overwrite writes them again"
    )


def files_with_places(
    found: Sequence[FoundFile], destinations: Sequence[Destination], output: Path | None
) -> Iterator[FoundFile]:
    """Yield the files, each with the destinations that have no place for its result."""
    images = {real_path(file.path) for file in found}
    takers: dict[Path, Path] = {}  # the image that each file belongs to
    results = None if output is None else real_path(output)
    if destinations:
        for folder in {file.path.parent for file in found}:
            remove_leftovers(folder, time.time())
    for file in found:
        if file.problem:  # it gets no result, and even to look for a file beside it may fail
            yield file
            continue
        barred: list[NotWritten | None] = []
        for destination in destinations:
            path = destination.path_for(file.path)
            problem = problem_of(file.path, path, takers, images)
            if real_path(path) == results:
                problem = f"{path}: this is the output file; choose another --output"
            barred.append(NotWritten(problem) if problem else None)
            takers.setdefault(real_path(path), file.path)
        yield replace(file, barred=tuple(barred))


def problem_of(image: Path, path: Path, takers: dict[Path, Path], images: set[Path]) -> str:
    """Return why the result of an image cannot be written to a path; empty if it can.

    The files of `takers` and `images` are real ones: two names may stand for the same file.
    """
    place, own = real_path(path), real_path(image)
    if place != own and place in images:
        return f"{path}: it is an image; rename it"
    if real_path(other := takers.get(place, image)) != own:
        return f"{path}: this is the place for the result of {other}; rename one of the images"
    if not may_write_to(place.parent):
        return f"{path}: captiond may not write to this folder"
    return ""

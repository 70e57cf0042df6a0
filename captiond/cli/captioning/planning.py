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
from captiond.photofiles.replacement import may_write_to, remove_leftovers


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
) -> WorkPlan:
    """Return what is to be captioned.

    `is_listed` says whether the output file has an image; None if there is no output file. An image
    for which something cannot be written gets this as its problem, before it costs any work.

    Raises:
        SettingsError: images have results, and it was not said what to do with them.
    """
    files: list[FoundFile] = []
    done = 0
    with_results: list[Path] = []
    for file in checked_files(found, destinations):
        if file.problem:
            files.append(file)
            continue
        try:
            written = [each.is_written(file.path) for each in destinations]
        except NotWritten as error:
            files.append(replace(file, problem=error.about(file.path), code=error.code))
            continue
        if is_listed is not None:
            written.append(is_listed(file.path))
        if any(written) and existing is not Existing.OVERWRITE:
            with_results.append(file.path)
        if written and all(written) and existing is Existing.SKIP:
            done += 1
        else:
            files.append(file)
    if with_results and existing is Existing.REFUSE:
        raise have_results(with_results, len(found))
    return WorkPlan(files, done)


def have_results(paths: Sequence[Path], total: int) -> SettingsError:
    return SettingsError(
        f"command line: {len(paths)} of {total} images have results already, the first is "
        f"{paths[0]}; --skip-existing leaves these as they are, --overwrite writes them again"
    )


def checked_files(
    found: Iterable[FoundFile], destinations: Sequence[Destination]
) -> Iterator[FoundFile]:
    """Yield the files. Those whose results have no place get that as their problem."""
    takers: dict[Path, Path] = {}  # the image that each file belongs to
    found = list(found)
    images = {file.path for file in found}
    if destinations:
        for folder in {path.parent for path in images}:
            remove_leftovers(folder, time.time())
    for file in found:
        problem = file.problem
        for destination in destinations:
            path = destination.path_for(file.path)
            problem = problem or problem_of(file.path, path, takers, images)
            takers.setdefault(path, file.path)
        code = file.code if file.problem else NotWritten.code
        yield replace(file, problem=problem, code=code) if problem else file


def problem_of(image: Path, path: Path, takers: dict[Path, Path], images: set[Path]) -> str:
    """Return why the result of an image cannot be written to a path; empty if it can."""
    if path != image and path in images:
        return f"{path}: it is an image; rename it"
    if (other := takers.get(path, image)) != image:
        return f"{path}: this is the place for the result of {other}; rename one of the images"
    if not may_write_to(path.resolve().parent):
        return f"{path}: captiond may not write to this folder"
    return ""

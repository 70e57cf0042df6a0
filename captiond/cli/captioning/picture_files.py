"""Which files to caption: those that are named, and the images in the folders that are named."""

import errno
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from captiond.imagetypes import SUFFIXES, image_type
from captiond.photofiles.metadata_errors import NotWritten

# Thumbnails and other files that photo programs and network storage keep beside the images.
SYSTEM_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"})
HEAD = 64  # bytes that the type of a file is known from
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """An entry that may be an image.

    `problem` says why it is not captioned; empty if it is. `code` is the code of this error.
    `barred` has an entry for each destination: why the result cannot be written there, if so.
    """

    path: Path
    problem: str = ""
    code: str = "unreadable_file"
    barred: tuple[NotWritten | None, ...] = ()


def found_files(paths: Iterable[Path]) -> Iterator[FoundFile]:
    """Yield each named file, and each image in a named folder, in the order of their names.

    Hidden entries of folders, and folders that programs keep for themselves, are left out. A file
    of a folder counts as an image if its name says so, or else if its content does. What cannot be
    read is yielded with its problem. A pipe or a device is never opened.
    """
    for path in paths:
        yield from entry(path, named=True, above=())


def entry(path: Path, *, named: bool, above: tuple[tuple[int, int], ...]) -> Iterator[FoundFile]:
    """Yield what there is at a path. `above` are the folders that it lies in: device and inode."""
    try:
        status = path.stat()
    except OSError as error:
        yield FoundFile(path, reason(path, error))
        return
    identity = (status.st_dev, status.st_ino)
    if stat.S_ISDIR(status.st_mode):
        if identity not in above:  # a link to a folder above is a loop
            yield from folder(path, (*above, identity))
    elif stat.S_ISREG(status.st_mode):
        if named or is_image(path):
            yield FoundFile(path, unreadable(path))
    else:
        yield FoundFile(path, f"not a file but {kind(status.st_mode)}")


def folder(path: Path, above: tuple[tuple[int, int], ...]) -> Iterator[FoundFile]:
    """Yield the images of a folder and of those in it."""
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        yield FoundFile(path, reason(path, error))
        return
    for each in inside:
        if not (each.name.startswith(".") or each.name in SYSTEM_FOLDERS):
            yield from entry(each, named=False, above=above)


def is_image(path: Path) -> bool:
    """Whether the name of a regular file says that it is an image, or else its content."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return image_type(file.read(HEAD)) is not None
    except OSError:
        return False


def unreadable(path: Path) -> str:
    """Return why a file cannot be opened; empty if it can."""
    try:
        with path.open("rb"):
            return ""
    except OSError as error:
        return reason(path, error)


def reason(path: Path, error: OSError) -> str:
    """Return what an error of the file system means for people."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"a link to {path.readlink()}, which does not exist"
    if error.errno == errno.ELOOP:
        return "a link that leads back to itself"
    return error.strerror or str(error)


def kind(mode: int) -> str:
    """Return the name of a kind of entry that is neither a file nor a folder."""
    return next((name for test, name in KINDS if test(mode)), "something else")

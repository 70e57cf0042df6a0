"""Which files to caption: those that are named, and the images in the folders that are named."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from captiond.imagetypes import SUFFIXES, image_type
from captiond.photofiles.metadata_errors import NotWritten

# Thumbnails and other files that photo programs and network storage keep beside the images.
SYSTEM_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"})
HEAD = 64  # bytes that the type of a file is known from
Above = tuple[tuple[int, int], ...]  # the folders that a path lies in, by device and inode
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
    for named in paths:
        waiting: list[tuple[Path, Above]] = [(named, ())]
        while waiting:  # a folder may lie in a thousand others
            path, above = waiting.pop()
            try:
                status = path.stat()
                if stat.S_ISDIR(status.st_mode):
                    waiting += reversed(inside(path, status, above))
                    continue
            except OSError as error:
                yield FoundFile(path, reason(path, error))
                continue
            if not stat.S_ISREG(status.st_mode):
                yield FoundFile(path, f"not a file but {kind(status.st_mode)}")
            elif path is named or is_image(path):
                yield FoundFile(path, unreadable(path))


def inside(path: Path, status: os.stat_result, above: Above) -> list[tuple[Path, Above]]:
    """Return the entries of a folder in the order of their names, with the folders above them.

    Raises:
        OSError: it cannot be listed.
    """
    identity = (status.st_dev, status.st_ino)
    if identity in above:  # a link to a folder above is a loop
        return []
    return [
        (each, (*above, identity))
        for each in sorted(path.iterdir())
        if not (each.name.startswith(".") or each.name in SYSTEM_FOLDERS)
    ]


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

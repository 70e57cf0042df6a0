"""Images that a request names by their path under `[images] root`, instead of sending them.

A path is resolved one component after the other, each relative to the folder that is open already,
and no symbolic link is followed. So nothing outside the root can be opened, even if somebody moves
or replaces folders meanwhile. This is what openat2(2) does with RESOLVE_BENEATH and
RESOLVE_NO_SYMLINKS; it needs no system call that older kernels and containers lack.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from captiond.errors import FileTooLarge, PathRefused, StorageFailed
from captiond.notation.sizes import shown_size
from captiond.spool import SpoolWriter

FIELD = "path"
MAX_PATH = 4096  # bytes; PATH_MAX of Linux
PIECE = 256 * 1024  # bytes that are read at once
PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # opens a name without any effect on what it names
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


def copy_named(
    root: Path,
    path: str,
    writer: SpoolWriter,
    *,
    check: Callable[[bytes], None],
    limit: int,
    share: int,
) -> None:
    """Append the bytes of a file under `root` to the current image of `writer`. Blocking.

    At most `share` bytes are in memory at once, and the file may have at most `limit` bytes.
    `check` gets the first bytes of the file, and raises ImageError to refuse it. A file that is
    refused is not read further: a short request may name a hundred of them.

    Raises:
        PathRefused: the path names no file that may be read.
        FileTooLarge: the file is larger.
        ImageError: `check` has refused the file.
        StorageFailed: the root cannot be opened.
        OSError: the spool cannot be written.
    """
    with opened_beneath(root, path) as file:
        # guard: large-files-are-not-read
        check_size(os.fstat(file.fileno()).st_size, limit)
        while piece := read_piece(file):
            check_size(writer.size + len(piece), limit)
            writer.write(memoryview(piece))
            # guard: other-files-are-not-read
            check(writer.head)
            if writer.unwritten >= share:
                writer.flush()
    check(writer.head)  # of an empty file


def check_size(size: int, limit: int) -> None:
    """Return if a file may have so many bytes. Raises FileTooLarge."""
    if size > limit:
        raise FileTooLarge(f"the file is over {shown_size(limit)}")


def read_piece(file: BinaryIO) -> bytes:
    """Return the next bytes of a named file. Raises PathRefused."""
    try:
        return file.read(PIECE)
    except OSError as error:
        raise PathRefused(f"the file cannot be read: {error.strerror}") from error


@contextmanager
def opened_beneath(root: Path, path: str) -> Iterator[BinaryIO]:
    """Open a regular file under `root` for reading, and close it after the block.

    Raises:
        PathRefused: the path leaves the root or has a symbolic link, or it names no regular file.
        StorageFailed: the root cannot be opened.
    """
    *folders, name = components(path)
    with ExitStack() as stack:
        place = open_root(root, stack)
        try:
            for folder in folders:
                place = open_place(folder, PLACE | os.O_DIRECTORY, place, stack)
            place = open_place(name, PLACE, place, stack)
            # guard: regular-files-only
            check_regular(os.fstat(place))
            # A pipe or a device would notice that it is opened; a place does not.
            descriptor = os.open(f"/proc/self/fd/{place}", READ)
            file = stack.enter_context(os.fdopen(descriptor, "rb", buffering=0))
        except OSError as error:
            raise unreadable(error) from error
        yield file


def components(path: str) -> list[str]:
    """Return the names that a path consists of.

    Raises:
        PathRefused: the path is empty, too long, absolute, or has `..`.
    """
    if path.startswith("/"):
        raise PathRefused("the path must be relative to [images] root")
    names = [name for name in path.split("/") if name not in {"", "."}]
    # guard: no-parent-folders
    if ".." in names:
        raise PathRefused("the path must not have ..")
    if not names or path.endswith("/") or "\0" in path or len(os.fsencode(path)) > MAX_PATH:
        raise PathRefused("the path names no file")
    return names


def open_root(root: Path, stack: ExitStack) -> int:
    """Open the root folder. Raises StorageFailed."""
    try:
        descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFailed(f"[images] root cannot be opened: {error.strerror}") from error
    stack.callback(os.close, descriptor)
    return descriptor


def open_place(name: str, flags: int, folder: int, stack: ExitStack) -> int:
    """Open a name in an open folder, without following it. Raises OSError."""
    descriptor = os.open(name, flags, dir_fd=folder)
    stack.callback(os.close, descriptor)
    return descriptor


def check_regular(status: os.stat_result) -> None:
    """Return if this is a regular file, and not a folder, a symbolic link, a pipe or a device."""
    if not stat.S_ISREG(status.st_mode):
        raise PathRefused("the path names no regular file; symbolic links are not followed")


def unreadable(error: OSError) -> PathRefused:
    """Return the error for a path that cannot be opened."""
    if error.errno in ABSENT:
        return PathRefused("no such file under [images] root; symbolic links are not followed")
    return PathRefused(f"the file cannot be opened: {error.strerror}")

"""Uploaded files on disk: those of one request, one behind the other, in one spool file.

One file costs one fsync, however many images it holds. It is written as `<name>.part`, made durable
and renamed to `<name>`, so a name without `.part` is whole. A name is its writer's, a dash and 128
random bits in hex: nothing of a client's file name reaches the file system, and what a dead writer
left can be told.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger()
PART = ".part"
PIECE_BYTES = 400  # of memory, beside what it holds
IOV_MAX = 1024  # pieces that one call of pwritev(2) takes


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """Where in its spool file one uploaded file stands, in bytes."""

    offset: int
    size: int
    sha256: str


class SpoolWriter:
    """One spool file in the making.

    Each image is `begin`, `write` as often as it takes, then `end` or `drop`; these keep what came
    in memory. `flush`, `commit` and `discard` are of the whole file, and block: call them in a
    thread. `head` is the first bytes of the present image, enough to tell its type.

    Raises:
        OSError: the disk is full, or worse; the caller then discards the file.
    """

    HEAD_BYTES = 64

    def __init__(self, folder: Path, owner: str) -> None:
        self.path = folder / f"{owner}-{secrets.token_hex(16)}"
        self._part = self.path.with_suffix(PART)
        self._descriptor = -1
        self._end = self._flushed = 0
        self._unwritten: list[memoryview] = []
        self.begin()

    def begin(self) -> None:
        self._offset = self._end
        self._hash = hashlib.sha256()
        self.head = b""

    @property
    def size(self) -> int:
        """The bytes of the present image so far."""
        return self._end - self._offset

    @property
    def unwritten(self) -> int:
        """The bytes that are in memory, with what each of many small pieces takes."""
        return self._end - self._flushed + PIECE_BYTES * len(self._unwritten)

    @property
    def empty(self) -> bool:
        """Whether no image is in the file."""
        return self._end == 0

    def write(self, data: memoryview) -> None:
        if len(self.head) < self.HEAD_BYTES:
            self.head += data[: self.HEAD_BYTES - len(self.head)]
        self._hash.update(data)
        self._unwritten.append(data)
        self._end += len(data)

    def end(self) -> SpooledImage:
        return SpooledImage(self._offset, self.size, self._hash.hexdigest())

    def drop(self) -> None:
        """Take back what was written of the present image."""
        while self._unwritten and self._end > self._offset:
            self._end -= len(self._unwritten.pop())
        self._end, self._flushed = self._offset, min(self._flushed, self._offset)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        while self._unwritten:
            pieces = self._unwritten[:IOV_MAX]
            written = os.pwritev(self._descriptor, pieces, self._flushed)
            self._unwritten = after(self._unwritten, written)
            self._flushed += written

    def commit(self, *, durable: bool) -> Path:
        """Give the file its name; if `durable`, bytes and name are on disk by then."""
        self.flush()
        os.ftruncate(self._descriptor, self._end)  # more was written of what was dropped
        if durable:
            os.fdatasync(self._descriptor)  # with its size, without its times
        self._close()
        self._part.rename(self.path)
        if durable:
            sync_folder(self.path.parent)
        return self.path

    def discard(self) -> None:
        """Remove what was written, under whatever name it stands."""
        self._close()
        remove((self._part, self.path))

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1  # is free even if closing fails
        if descriptor >= 0:
            os.close(descriptor)


def after(parts: list[memoryview], count: int) -> list[memoryview]:
    """What is left of the parts behind their first `count` bytes."""
    for number, part in enumerate(parts):
        if count < len(part):
            return [part[count:], *parts[number + 1 :]]
        count -= len(part)
    return []


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(paths: Iterable[Path]) -> None:
    """Remove spool files that nobody needs any more; one that is gone already is no error, and one
    that cannot be removed is left to the next sweep.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("spool_file_stays", path=str(path), reason=error.strerror)


def sweep(folder: Path, keep: set[str], *, owner: str | None = None) -> int:
    """Remove a dead owner's files, or all, but those named in `keep`; how many they were."""
    pattern = f"{owner}-*" if owner else "*"
    orphans = [path for path in folder.glob(pattern) if path.name not in keep and is_file(path)]
    remove(orphans)
    return len(orphans)


def is_file(path: Path) -> bool:
    """Not a folder, as the file system's own lost+found."""
    return not path.is_dir()


def files_before(folder: Path, moment: float) -> list[Path]:
    """The spool files that were last written before then, in Unix seconds."""
    return [path for path in folder.iterdir() if is_file(path) and written_at(path) < moment]


def written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # done meanwhile
        return float("inf")

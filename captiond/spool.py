"""The spool: the bytes of uploaded images, until their task is finished.

All images of one request are stored one after the other in one spool file, so a request costs one
fsync however many images it has. Messages and database rows name a file by its name, never by its
path, because `Spool` is an interface. Its one implementation is a folder (`FolderSpool`).

A file is written as `<name>.part`, made durable and renamed to `<name>`, so a name without `.part`
belongs to a whole file. A name is the writer's name, a dash and 128 random bits in hex. No client's
file name reaches the file system, and the files of a writer that died can be recognized.
"""

import hashlib
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from captiond.config import Settings
from captiond.errors import SpoolError
from captiond.jobs import SpooledImage

log = structlog.get_logger()
PART = ".part"
PIECE_BYTES = 400  # memory that a piece takes beside its bytes
HEAD_BYTES = 64  # of an image, kept to recognize its type
IOV_MAX = 1024  # pieces that one call of pwritev(2) takes


class SpoolWriter(Protocol):
    """Writes one spool file.

    For each image, call `begin`, then `write` any number of times, then `end` or `drop`; these only
    keep bytes in memory. `flush`, `commit` and `discard` concern the whole file and block, so call
    them in a thread. They raise OSError if the storage fails; the caller then discards the file.
    """

    @property
    def name(self) -> str:
        """The name of the file."""

    @property
    def head(self) -> bytes:
        """The first HEAD_BYTES of the current image, which are enough to recognize its type."""

    @property
    def size(self) -> int:
        """The size of the current image so far, in bytes."""

    @property
    def unwritten(self) -> int:
        """The memory that unwritten data takes, in bytes."""

    @property
    def empty(self) -> bool:
        """Whether the file holds no image."""

    def begin(self) -> None:
        """Begin an image."""

    def write(self, data: memoryview) -> None:
        """Append bytes to the current image."""

    def end(self) -> SpooledImage:
        """Finish the current image, and return where its bytes are."""

    def drop(self) -> None:
        """Remove the current image from the file."""

    def flush(self) -> None:
        """Write what is in memory to the storage, which frees the memory."""

    def commit(self, *, durable: bool) -> None:
        """Give the file its name. If `durable`, it survives a power cut from then on."""

    def discard(self) -> None:
        """Remove the file, whether it was committed or not."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The free and the total space of the storage, in bytes."""

    free: int
    total: int


class Spool(Protocol):
    """Where spool files are kept. All methods block."""

    def writer(self, owner: str) -> SpoolWriter:
        """Return a writer for a new file; `owner` is the name of the process that writes it."""

    def read(self, image: SpooledImage) -> bytes:
        """Return the bytes of an image.

        Raises:
            SpoolError: the file is missing, shorter than it was, or cannot be read.
        """

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. A file that is missing is no error; one that cannot be removed is left to
        the next sweep.
        """

    def sweep(self, keep: Collection[str], *, owner: str | None = None) -> int:
        """Remove all files, or those of one owner, except those in `keep`; return their number."""

    def sizes(self) -> dict[str, int]:
        """Return the size of every file by its name, in bytes. Raises OSError."""

    def total_size(self) -> int:
        """Return the size of all files together, in bytes. Raises OSError."""

    def disk_space(self) -> DiskSpace:
        """Return the space of the storage. Raises OSError."""

    def written_before(self, moment: float) -> list[str]:
        """Return the names of the files that were last written before a Unix time in seconds."""


def open_spool(settings: Settings) -> Spool:
    """Return the spool that the settings describe."""
    return FolderSpool(settings.spool)


class FolderSpool:
    """A spool in a folder of the local file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def writer(self, owner: str) -> "FileWriter":
        return FileWriter(self._folder, f"{owner}-{secrets.token_hex(16)}")

    def read(self, image: SpooledImage) -> bytes:
        try:
            with (self._folder / image.file).open("rb", buffering=0) as file:
                content = os.pread(file.fileno(), image.size, image.offset)
        except OSError as error:
            raise SpoolError(f"the uploaded file cannot be read: {error.strerror}") from error
        if len(content) < image.size:
            raise SpoolError(
                f"the uploaded file is cut short: {image.size} bytes were stored at "
                f"{image.offset}, {len(content)} can be read"
            )
        return content

    def remove(self, names: Iterable[str]) -> None:
        remove([self._folder / name for name in names])

    def sweep(self, keep: Collection[str], *, owner: str | None = None) -> int:
        pattern = f"{owner}-*" if owner else "*"
        orphans = [
            path for path in self._folder.glob(pattern) if path.name not in keep and is_file(path)
        ]
        remove(orphans)
        return len(orphans)

    def sizes(self) -> dict[str, int]:
        return dict(self._files())

    def total_size(self) -> int:
        return sum(size for _, size in self._files())

    def disk_space(self) -> DiskSpace:
        disk = os.statvfs(self._folder)
        return DiskSpace(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)

    def _files(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the size in bytes of every file."""
        if not self._folder.is_dir():
            return
        with os.scandir(self._folder) as entries:
            for entry in entries:
                size = size_of(entry)
                if size is not None:
                    yield entry.name, size

    def written_before(self, moment: float) -> list[str]:
        if not self._folder.is_dir():
            return []
        return [
            path.name
            for path in self._folder.iterdir()
            if is_file(path) and modified_at(path) < moment
        ]


class FileWriter:
    """Writes one spool file into a folder, as `SpoolWriter` describes it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._part = self._path.with_suffix(PART)
        self._descriptor = -1
        self._end = self._flushed = 0
        self._unwritten: list[memoryview] = []
        self.begin()

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def head(self) -> bytes:
        return self._head

    @property
    def size(self) -> int:
        return self._end - self._offset

    @property
    def unwritten(self) -> int:
        return self._end - self._flushed + PIECE_BYTES * len(self._unwritten)

    @property
    def empty(self) -> bool:
        return self._end == 0

    def begin(self) -> None:
        self._offset = self._end
        self._hash = hashlib.sha256()
        self._head = b""

    def write(self, data: memoryview) -> None:
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        self._hash.update(data)
        self._unwritten.append(data)
        self._end += len(data)

    def end(self) -> SpooledImage:
        return SpooledImage(self.name, self._offset, self.size, self._hash.hexdigest())

    def drop(self) -> None:
        while self._unwritten and self._end > self._offset:
            self._end -= len(self._unwritten.pop())
        self._end, self._flushed = self._offset, min(self._flushed, self._offset)

    def flush(self) -> None:
        if self._descriptor < 0:
            self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        while self._unwritten:
            pieces = self._unwritten[:IOV_MAX]
            written = os.pwritev(self._descriptor, pieces, self._flushed)
            self._unwritten = after(self._unwritten, written)
            self._flushed += written

    def commit(self, *, durable: bool) -> None:
        self.flush()
        os.ftruncate(self._descriptor, self._end)  # a dropped image may have been written already
        if durable:
            # guard: sync-upload
            os.fdatasync(self._descriptor)  # syncs the size as well, but not the times
        self._close()
        self._part.rename(self._path)
        if durable:
            # guard: sync-folder
            sync_folder(self._path.parent)

    def discard(self) -> None:
        self._close()
        remove((self._part, self._path))

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1  # it is free even if close(2) fails
        if descriptor >= 0:
            os.close(descriptor)


def after(parts: list[memoryview], count: int) -> list[memoryview]:
    """Return the parts without their first `count` bytes."""
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
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            if not path.exists():  # a read-only file system says so even then
                continue
            log.warning("spool_file_not_removed", path=str(path), reason=error.strerror)


def is_file(path: Path) -> bool:
    """Return whether this is not a folder. A file system may have its own `lost+found` here."""
    return not path.is_dir()


def modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # it was removed meanwhile
        return float("inf")


def size_of(entry: "os.DirEntry[str]") -> int | None:
    """Return the size of a file, or None for a folder and for a file that was removed meanwhile."""
    try:
        return None if entry.is_dir() else entry.stat().st_size
    except FileNotFoundError:
        return None

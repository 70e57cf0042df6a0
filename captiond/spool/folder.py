"""A spool in a folder of the local file system.

A file is written as `<name>.part`, made durable and renamed to `<name>`, so a name without `.part`
belongs to a whole file. A name is the writer's name, a dash and 128 random bits in hex. No client's
file name reaches the file system, and the files of a writer that died can be recognized.
"""

import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import structlog

from captiond.errors import SpoolError
from captiond.jobs import SpooledImage
from captiond.shielding import in_thread
from captiond.spool.interface import DiskSpace
from captiond.spool.staging import StagedWriter

log = structlog.get_logger()
PART = ".part"


class FolderSpool:
    """A spool in a folder of the local file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def remote(self) -> bool:
        return False

    def writer(self, owner: str, *, durable: bool) -> "FileWriter":
        return FileWriter(self._folder, f"{owner}-{secrets.token_hex(16)}", durable=durable)

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

    def sweep(self, keep: Collection[str], *, owner: str) -> int:
        return self._sweep(keep, f"{owner}-*")

    def sweep_at_start(self, keep: Collection[str]) -> int:
        return self._sweep(keep, "*")

    def _sweep(self, keep: Collection[str], pattern: str) -> int:
        orphans = [
            path for path in self._folder.glob(pattern) if path.name not in keep and is_file(path)
        ]
        remove(orphans)
        return len(orphans)

    def sizes(self) -> dict[str, int]:
        return dict(self._files())

    def total_size(self) -> int:
        return sum(size for _, size in self._files())

    def place(self, name: str) -> str:
        return str(self._folder / name)

    def disk_space(self) -> DiskSpace:
        disk = os.statvfs(self._folder)
        writable = os.access(self._folder, os.W_OK | os.X_OK)
        return DiskSpace(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize, writable)

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


class FileWriter(StagedWriter):
    """Writes one spool file into a folder, as `SpoolWriter` describes it."""

    def __init__(self, folder: Path, name: str, *, durable: bool) -> None:
        super().__init__(name)
        self._path = folder / name
        self._part = self._path.with_suffix(PART)
        self._durable = durable

    def _create(self) -> int:
        return os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    async def commit(self) -> None:
        await in_thread(self._commit)

    def _commit(self) -> None:
        self._finish()
        if self._durable:
            # guard: sync-upload
            os.fdatasync(self._descriptor)  # syncs the size as well, but not the times
        self._close()
        self._part.rename(self._path)
        if self._durable:
            # guard: sync-folder
            sync_folder(self._path.parent)

    def discard(self) -> None:
        self._close()
        remove((self._part, self._path))


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

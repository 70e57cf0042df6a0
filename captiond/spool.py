"""Uploaded files on disk: written as `<name>.part`, made durable, renamed to `<name>`.

A name without `.part` is whole. A name is its writer's, a dash and 128 random bits in hex: nothing
of a client's file name reaches the file system, and what a dead writer left can be told.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PART = ".part"


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A whole file in the spool."""

    path: Path
    sha256: str
    size: int


class SpoolWriter:
    """One file on its way into the spool. Blocking: call it in a thread.

    Ends with `commit` or `discard`; until then there is only a `.part`. `head` is the file's first
    bytes, enough to tell its type.
    """

    HEAD_BYTES = 64

    def __init__(self, folder: Path, owner: str) -> None:
        self._path = folder / f"{owner}-{secrets.token_hex(16)}"
        self._part = self._path.with_suffix(PART)
        self._hash = hashlib.sha256()
        self._size = 0
        self.head = b""
        self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            OSError: the disk is full, or worse; the caller then discards the file.
        """
        self.head += data[: max(0, self.HEAD_BYTES - len(self.head))]
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += len(data)

    def commit(self, *, durable: bool) -> SpooledFile:
        """Give the file its name. If `durable`, its bytes are on disk by then.

        The name itself is durable after `sync_folder`.
        """
        if durable:
            os.fsync(self._descriptor)
        self._close()
        self._part.rename(self._path)
        return SpooledFile(self._path, self._hash.hexdigest(), self._size)

    def discard(self) -> None:
        """Remove what was written, under whatever name it stands."""
        self._close()
        remove((self._part, self._path))

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(paths: Iterable[Path]) -> None:
    """Remove spool files that nobody needs any more; one that is gone already is no error."""
    for path in paths:
        path.unlink(missing_ok=True)


def sweep(folder: Path, keep: set[str], *, owner: str | None = None) -> int:
    """Remove a dead owner's files, or all, but those named in `keep`; how many they were."""
    pattern = f"{owner}-*" if owner else "*"
    orphans = [path for path in folder.glob(pattern) if path.name not in keep]
    remove(orphans)
    return len(orphans)

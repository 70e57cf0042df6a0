"""What a spool is, wherever it keeps its files, and how one file is written."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from captiond.jobs import SpooledImage

HEAD_BYTES = 64  # of an image, kept to recognize its type
SLASH = "/"  # in the name of each object, and of no file in a folder


class SpoolWriter(Protocol):
    """Writes one spool file.

    For each image, call `begin`, then `write` any number of times, then `end` or `drop`; these only
    keep bytes in memory. `flush` and `discard` block, so call them in a thread. `commit` must be
    awaited until it returns, also by a caller that is cancelled. If the storage fails, they raise
    OSError or StoreError; the caller then discards the file.
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
        """Remove the current image from the file. Its hash and its `head` stay."""

    def skip(self, data: memoryview) -> None:
        """Hash further bytes of an image that was dropped. They are not stored."""

    def flush(self) -> None:
        """Write what is in memory to the disk, which frees the memory."""

    async def commit(self) -> None:
        """Give the file its name. One that is durable survives a power cut from then on."""

    def discard(self) -> None:
        """Remove the file, whether it was committed or not."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The free and the total space of a disk in bytes, and whether this process may write there."""

    free: int
    total: int
    writable: bool = True


class Spool(Protocol):
    """Where spool files are kept. All methods block."""

    @property
    def remote(self) -> bool:
        """Whether durable files are kept on other machines, where a listing takes time and money.

        They then take space of this machine's disk only while they arrive.
        """

    def writer(self, owner: str, *, durable: bool) -> SpoolWriter:
        """Return a writer for a new file; `owner` is the name of the process that writes it."""

    def read(self, image: SpooledImage) -> bytes:
        """Return the bytes of an image.

        Raises:
            SpoolError: the file is missing, shorter than it was, or cannot be read.
            StorageUnavailable: the storage does not answer now, so another attempt may succeed.
        """

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. A file that is missing is no error; one that cannot be removed is left to
        the next sweep.
        """

    def sweep(self, keep: Collection[str], *, owner: str) -> int:
        """Remove the files of one owner, except those in `keep`; return their number.

        Raises:
            OSError, StoreError: the storage does not answer.
        """

    def sweep_at_start(self, keep: Collection[str]) -> int:
        """Remove what an earlier run on this machine has left; return the number of files."""

    def sizes(self) -> dict[str, int]:
        """Return the size of every file by its name, in bytes. Raises OSError or StoreError."""

    def total_size(self) -> int:
        """Return the size of all files together, in bytes. Raises OSError or StoreError."""

    def disk_space(self) -> DiskSpace:
        """Return the space of the disk that uploads are written to. Raises OSError."""

    def written_before(self, moment: float) -> list[str]:
        """Return the names of the files that were last written before a Unix time in seconds.

        Raises:
            OSError, StoreError: the storage does not answer.
        """

    def place(self, name: str) -> str:
        """Return where a file is, for messages to people."""


def is_object(name: str) -> bool:
    """Return whether a spool file is an object of object storage."""
    return SLASH in name

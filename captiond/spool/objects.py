"""A spool in a bucket of object storage.

The name of a file is the writer's name, a slash and 128 random bits in hex. It is the name of its
object below the prefix, so the objects of one writer can be listed. No file of a folder has a slash
in its name, which tells the two homes apart.

A request first arrives on this machine's disk, and is sent as one object when it is complete. So a
client that is slow or gives up costs the storage nothing, and leaves no parts behind there. A
small request stays in memory and touches no disk.
"""

import os
import secrets
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from captiond.errors import SpoolError
from captiond.jobs import SpooledImage
from captiond.queues.bytebudget import ByteBudget
from captiond.shielding import in_thread
from captiond.spool.bucket import PART_BYTES, PARTS_AT_ONCE, Bucket
from captiond.spool.interface import SLASH, is_object
from captiond.spool.staging import StagedWriter
from captiond.spool.unavailable import StorageUnavailable

if TYPE_CHECKING:
    from obstore import Bytes

log = structlog.get_logger()
# Parts that are being sent, one that is being filled, and one that is being read from the disk.
LARGE_BYTES = (PARTS_AT_ONCE + 2) * PART_BYTES
SENDING_BYTES = 2 * LARGE_BYTES  # that all objects may take in memory which a process sends at once


MARK, MARK_BYTES = "captiond-service", 64  # an object without a slash, so it is no file


class ObjectSpool:
    """The files of tasks in a bucket. `staging` is a folder on this machine's disk."""

    def __init__(self, bucket: Bucket, staging: Path) -> None:
        self._bucket = bucket
        self._staging = staging
        self._sending = ByteBudget(SENDING_BYTES)

    def writer(self, owner: str) -> "ObjectWriter":
        """Return a writer for a new file, which will be durable."""
        name = f"{owner}{SLASH}{secrets.token_hex(16)}"
        return ObjectWriter(name, self._bucket, self._staging, self._sending)

    async def fetch(self, image: SpooledImage) -> "Bytes | bytes":
        """Return the bytes of an image.

        Raises:
            SpoolError: the object is missing, or shorter than it was.
            StorageUnavailable: another attempt may succeed.
        """
        if not image.size:
            return b""
        content = await self._bucket.fetch(image.file, image.offset, image.size)
        check_size(content, image)
        return content

    def read(self, image: SpooledImage) -> bytes:
        """Do what `fetch` does, for a caller that may block."""
        if not image.size:
            return b""
        content = self._bucket.read(image.file, image.offset, image.size)
        check_size(content, image)
        return bytes(content)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. Those that cannot be removed are left to the next sweep."""
        files = list(names)
        try:
            self._bucket.delete(files)
        except StorageUnavailable as error:
            path = self.place(files[0])
            log.warning("spool_file_not_removed", path=path, files=len(files), reason=str(error))

    def sweep(self, keep: Collection[str], owner: str) -> int:
        """Remove the files of one owner, except those in `keep`; return their number."""
        orphans = [each.name for each in self._bucket.objects(owner) if each.name not in keep]
        self._bucket.delete(orphans)
        return len(orphans)

    def sizes(self) -> dict[str, int]:
        """Return the size of every file by its name, in bytes."""
        return {each.name: each.size for each in self._bucket.objects() if is_object(each.name)}

    def total_size(self) -> int:
        """Return the size of all files together, in bytes."""
        return sum(each.size for each in self._bucket.objects() if is_object(each.name))

    def written_before(self, moment: float) -> list[str]:
        """Return the names of the files that were written before a Unix time in seconds."""
        objects = self._bucket.objects()
        return [each.name for each in objects if is_object(each.name) and each.written < moment]

    def owner(self, ours: str) -> tuple[str, str]:
        """Return the name of the service that keeps its files here, and the place that has it.

        It is `ours` from now on if there is none. Blocking.

        Raises:
            StorageUnavailable: that cannot be read now.
        """
        try:
            name = bytes(self._bucket.read(MARK, 0, MARK_BYTES)).decode(errors="replace")
        except SpoolError:  # there is no such object
            self._bucket.store(MARK, ours.encode())
            name = ours
        return name, self.place(MARK)

    def place(self, name: str) -> str:
        """Return where a file is, for messages to people."""
        return f"{self._bucket.url}/{name}"


class ObjectWriter(StagedWriter):
    """Writes one object, as `SpoolWriter` describes it."""

    def __init__(self, name: str, bucket: Bucket, staging: Path, sending: ByteBudget) -> None:
        super().__init__(name)
        self._bucket = bucket
        self._staging = staging
        self._sending = sending
        self._committed = False

    def _create(self) -> int:
        # The file has no name, so nothing is left of it if this process is killed.
        with tempfile.TemporaryFile(dir=self._staging, buffering=0) as file:
            return os.dup(file.fileno())

    async def commit(self) -> None:
        async with self._sending.lent(min(self._end, LARGE_BYTES)):
            await self._bucket.put(self.name, await self._content(), self._end)
        self._committed = True
        self._close()

    async def _content(self) -> bytes | Path:
        """Return the whole file, if it is still in memory, or where it is on the disk."""
        if self._descriptor < 0:
            content, self._unwritten = b"".join(self._unwritten), []
            return content
        await in_thread(self._finish)
        return Path(f"/proc/self/fd/{self._descriptor}")

    def discard(self) -> None:
        self._close()
        if self._committed:
            self._bucket.delete([self.name])


def check_size(content: "Bytes", image: SpooledImage) -> None:
    """Return if all bytes of an image are there. Raises SpoolError."""
    if len(content) < image.size:
        raise SpoolError(
            f"the uploaded file is cut short: {image.size} bytes were stored at {image.offset}, "
            f"{len(content)} can be read"
        )

"""A form whose files are compared with earlier ones, and are not stored."""

import hashlib

from captiond.jobs import SpooledImage
from captiond.spool import HEAD_BYTES


class UnstoredFile:
    """A `SpoolWriter` that hashes its images and keeps none of their bytes.

    It needs no space in the spool, so a request that adds no work is answered while the spool, the
    queue or the disk is full.
    """

    name = ""
    unwritten = 0
    empty = True

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.head, self.size = b"", 0
        self._hash = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        self.head += data[: max(0, HEAD_BYTES - len(self.head))]
        self.size += len(data)
        self._hash.update(data)

    def end(self) -> SpooledImage:
        return SpooledImage("", 0, self.size, self._hash.hexdigest())

    def drop(self) -> None:
        pass

    def skip(self, data: memoryview) -> None:
        self._hash.update(data)

    def flush(self) -> None:
        pass

    async def commit(self) -> None:
        pass

    def discard(self) -> None:
        pass

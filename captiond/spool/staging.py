"""A spool file while it arrives: hashed, kept in memory, and written to the disk in pieces."""

import hashlib
import os
from abc import ABC, abstractmethod

from captiond.jobs import SpooledImage
from captiond.spool.interface import HEAD_BYTES

PIECE_BYTES = 400  # memory that a piece takes beside its bytes
IOV_MAX = 1024  # pieces that one call of pwritev(2) takes


class StagedWriter(ABC):
    """The part of a `SpoolWriter` that does not depend on where the file will be kept.

    `flush` writes to a file on this machine's disk, which `_create` opens when it is first needed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._descriptor = -1
        self._end = self._flushed = 0
        self._unwritten: list[memoryview] = []
        self.begin()

    @abstractmethod
    def _create(self) -> int:
        """Create the file on the disk, and return its descriptor."""

    @property
    def name(self) -> str:
        return self._name

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

    def skip(self, data: memoryview) -> None:
        self._hash.update(data)

    def flush(self) -> None:
        if self._descriptor < 0:
            self._descriptor = self._create()
        while self._unwritten:
            pieces = self._unwritten[:IOV_MAX]
            written = os.pwritev(self._descriptor, pieces, self._flushed)
            self._unwritten = after(self._unwritten, written)
            self._flushed += written

    def _finish(self) -> None:
        """Write the rest. The disk's file then has exactly the images that were kept."""
        self.flush()
        os.ftruncate(self._descriptor, self._end)  # a dropped image may have been written already

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

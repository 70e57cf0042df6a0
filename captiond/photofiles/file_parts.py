"""Files of which only some parts are read: the metadata of an image, without its pixels."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileParts:
    """An open file as bytes that are read when a slice of them is asked for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        begin, end, _ = part.indices(self._size)
        return os.pread(self._descriptor, max(0, end - begin), begin)


@contextmanager
def reading_parts(path: Path) -> Iterator[FileParts]:
    """Open a file within the block.

    Raises:
        OSError: it cannot be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield FileParts(descriptor)
    finally:
        os.close(descriptor)

"""Limits of the process that decodes an image: memory and processor time."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from captiond.decoding.budget import too_much
from captiond.decoding.childoutput import MAX_BYTES
from captiond.errors import TooMuchMemory

PAGE = resource.getpagesize()


class MemoryLimit:
    """The address space that this process may have, for one image after the other.

    `standing` bytes are for every image. `most` bytes are what a single image may take at all, and
    `shared` are the bytes that are mapped from the start on.
    """

    def __init__(self, *, standing: int, most: int, shared: int) -> None:
        self._standing, self._most = standing, most
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._base = 0
        self._hard = lowered(resource.RLIMIT_AS, most + shared)

    def begin(self) -> None:
        """Set the limit for an image that takes no more than the standing bytes."""
        self._base = PAGE * int(os.pread(self._statm, 64, 0).split()[0])
        self._limit(self._standing)

    def extend(self, needed: int) -> None:
        """Allow further bytes for this image.

        Raises:
            TooMuchMemory: no image may take so much.
        """
        if needed > self._most:
            raise too_much(needed, self._most)
        self._limit(self._standing + needed)

    def _limit(self, extra: int) -> None:
        soft = min(self._base + extra, self._hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, self._hard))


def limit_files() -> None:
    """Allow no core dump, and no file that is longer than what is kept of printed output."""
    lowered(resource.RLIMIT_CORE, 0)
    lowered(resource.RLIMIT_FSIZE, MAX_BYTES)


def lowered(kind: int, wanted: int) -> int:
    """Set a limit of this process for good, unless it is lower already. Return the new one.

    A process without privileges cannot raise a limit that a service manager or a shell has set.
    """
    _, hard = resource.getrlimit(kind)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (limit, limit))
    return limit


@contextmanager
def processor_seconds(seconds: float) -> Iterator[None]:
    """Let SIGPROF end this process if the block takes more processor time than that.

    Only the kernel can stop code within a C library.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def out_of_memory() -> TooMuchMemory:
    return TooMuchMemory("decoding the image takes more memory than is allowed")

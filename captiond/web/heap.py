"""Memory for uploads: how much of each may wait for the disk, and giving back what was freed."""

import asyncio
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

SETTLE_SECONDS = 2.0
MOST, LEAST = 1024 * 1024, 64 * 1024
ALL_TOGETHER = 16 * 1024 * 1024


class Heap:
    """Trimmed some time after uploads: measured, 200 of 15 MB at once otherwise leave 150 MB."""

    def __init__(self) -> None:
        self._used = asyncio.Event()
        self._uploads = 0

    @property
    def share(self) -> int:
        """Bytes of an upload that may be in memory before they are written."""
        return max(LEAST, min(MOST, ALL_TOGETHER // max(1, self._uploads)))

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """An upload is on its way while the block runs."""
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1
            self._used.set()

    async def keep_trimmed(self) -> None:
        while True:
            await self._used.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._used.clear()
            await asyncio.to_thread(trim)


def trim() -> None:
    """Ask glibc to give free pages back; other C libraries have no such call, nor the habit."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)

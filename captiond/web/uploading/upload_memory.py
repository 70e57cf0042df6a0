"""The memory that uploads take in a web process: its limit, and how it is freed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from captiond.host.machine import trim_heap

TRIM_SECONDS = 2.0  # from an upload to the trim, so that one trim serves many uploads
MAX_SHARE, MIN_SHARE = 1024 * 1024, 64 * 1024
TOTAL_BYTES = 16 * 1024 * 1024


class UploadMemory:
    """Divides a fixed amount of memory among the uploads that are in progress.

    The heap is trimmed after uploads: without it, 200 simultaneous uploads of 15 MB leave the
    process 150 MB larger.
    """

    def __init__(self) -> None:
        self._used = asyncio.Event()
        self._uploads = 0

    @property
    def share(self) -> int:
        """How many bytes of an upload may be in memory before they are written to the spool."""
        return max(MIN_SHARE, min(MAX_SHARE, TOTAL_BYTES // max(1, self._uploads)))

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Count an upload as in progress while the block runs."""
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1
            self._used.set()

    async def keep_trimmed(self) -> None:
        """Trim the heap some seconds after each upload, forever."""
        while True:
            await self._used.wait()
            await asyncio.sleep(TRIM_SECONDS)
            self._used.clear()
            await asyncio.to_thread(trim_heap)

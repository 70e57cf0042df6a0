"""What image decoders print: captured, cut off, and logged in a few lines of our own.

libtiff and other libraries print to standard error, thousands of lines for a small file. A client
must not determine how much is logged.
"""

import os
import time
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

import structlog

MAX_BYTES = 16384  # that a decoder can print for an image; more is dropped
FIRST_LOGGED, LAST_LOGGED = 200, 300  # bytes of it; the last line of a traceback says the most
GAP = b" ... "
PERIOD_SECONDS = 60.0  # between two lines
log = structlog.get_logger()


class PrintedOutput:
    """An anonymous file that a decoder has as its standard output and standard error.

    Both processes share its offset. The file's size is limited in the decoder (RLIMIT_FSIZE).
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = (
            os.memfd_create("captiond-printed", os.MFD_CLOEXEC)
            if descriptor is None
            else descriptor
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return attach, (DupFd(self.descriptor),)

    def take(self) -> tuple[int, bytes]:
        """Return how many bytes were printed since the last call, and the first and last ones."""
        size = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        if size == 0:
            return 0, b""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        if size <= FIRST_LOGGED + LAST_LOGGED:
            return size, os.pread(self.descriptor, size, 0)
        first = os.pread(self.descriptor, FIRST_LOGGED, 0)
        return size, first + GAP + os.pread(self.descriptor, LAST_LOGGED, size - LAST_LOGGED)

    def close(self) -> None:
        os.close(self.descriptor)


def attach(descriptor: Any) -> PrintedOutput:
    return PrintedOutput(descriptor.detach())


class DecoderLog:
    """Logs what clients can cause with their images: at most one line a minute.

    The others are counted, and are logged at the level debug.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock()
        self._suppressed = 0

    def printed(self, image: str, size: int, text: bytes) -> None:
        """Log what a decoder has printed for an image, which is named by its hash."""
        words = text.decode("utf-8", errors="replace")
        self._log("decoder_printed", image=image, bytes=size, text=words)

    def too_slow(self, image: str, seconds: float) -> None:
        """Log that a decoder was ended because of its processor time."""
        self._log("decoding_too_slow", image=image, seconds=seconds)

    def _log(self, event: str, **fields: object) -> None:
        now = self._clock()
        if now < self._next:
            self._suppressed += 1
            log.debug(event, **fields)
            return
        self._next = now + PERIOD_SECONDS
        log.info(event, **fields, suppressed=self._suppressed)
        self._suppressed = 0

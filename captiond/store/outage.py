"""Failures of the database and of the file system, which the supervisor's loops survive."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from captiond.errors import StoreError

log = structlog.get_logger()


class StorageOutage:
    """Whether a repeated operation of the storage fails at present.

    The log gets one line when the operation begins to fail, one when it fails for another reason,
    and one when it succeeds again. A loop that repeats the operation each second therefore does
    not fill a disk whose lack of space is the problem.
    """

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._reason: str | None = None

    @property
    def lasts(self) -> bool:
        """Whether the operation failed the last time."""
        return self._reason is not None

    @contextmanager
    def tolerated(self) -> Iterator[None]:
        """Suppress a StoreError or an OSError that the block raises."""
        try:
            yield
        except (StoreError, OSError) as error:
            self._failed(str(error))
        else:
            self._succeeded()

    def _failed(self, reason: str) -> None:
        if reason != self._reason:
            log.error("storage_failing", operation=self._operation, reason=reason)
        self._reason = reason

    def _succeeded(self) -> None:
        if self._reason is not None:
            log.info("storage_recovered", operation=self._operation)
        self._reason = None

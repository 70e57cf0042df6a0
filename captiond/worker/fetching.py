"""Fetches images of tasks from object storage, before it is their turn with an image decoder.

Each image that a model process has claimed is fetched at once, so the model does not wait for the
network as long as fetching keeps up with it. The bytes of fetched images are bounded, and so are
the requests at once.

While the storage does not answer, the images wait: they were accepted, and another attempt may
succeed. Only an image whose object is gone fails.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from captiond.backoff import backoff
from captiond.errors import SpoolError
from captiond.jobs import Refused, SpooledImage
from captiond.metrics import OBJECT_FAILURES, OBJECT_READ_SECONDS
from captiond.queues.bytebudget import ByteBudget
from captiond.recording import Recorder
from captiond.spool import is_object
from captiond.spool.unavailable import StorageUnavailable

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from captiond.spool.objects import ObjectSpool

log = structlog.get_logger()
FETCHED_BYTES = 128 * 1024 * 1024  # of all images that are being fetched, or wait for a decoder
REQUESTS = 32  # at once
FIRST_RETRY, LONGEST_RETRY = 0.5, 15.0  # seconds between two attempts


class ImageFetcher:
    """Fetches images. `objects` is None if the settings name no object storage."""

    def __init__(self, objects: "ObjectSpool | None", recorder: Recorder) -> None:
        self._objects = objects
        self._recorder = recorder
        self._budget = ByteBudget(FETCHED_BYTES)
        self._requests = asyncio.Semaphore(REQUESTS)
        self._failing = False

    @asynccontextmanager
    async def content(
        self, image: SpooledImage, is_wanted: Callable[[], bool]
    ) -> AsyncIterator["Buffer | Refused | None"]:
        """Fetch an image, and keep it in memory while the block runs.

        The result is None if the image is in the spool's folder, where decoders read it themselves,
        and if it is not wanted any more.
        """
        if not is_object(image.file):
            yield None
            return
        async with self._budget.lent(image.size):
            yield await self._fetch(image, is_wanted)

    async def _fetch(
        self, image: SpooledImage, is_wanted: Callable[[], bool]
    ) -> "Buffer | Refused | None":
        if self._objects is None:
            return Refused.of(
                SpoolError("the image is in object storage, and [uploads] url is not set")
            )
        failures = 0
        while is_wanted():
            try:
                async with self._requests:
                    begun = time.perf_counter()
                    content = await self._objects.fetch(image)
            except SpoolError as error:
                return Refused.of(error)
            except StorageUnavailable as error:
                self._failed(error)
                failures += 1
                delay = backoff(failures, first=FIRST_RETRY, longest=LONGEST_RETRY)
                await asyncio.sleep(delay)
            else:
                self._succeeded(time.perf_counter() - begun)
                return content
        return None

    def _failed(self, error: StorageUnavailable) -> None:
        """Count that the storage fails, and log it, once until it works again."""
        self._recorder.count(OBJECT_FAILURES, "read")
        if not self._failing:
            log.error("uploads_not_readable", reason=str(error))
        self._failing = True

    def _succeeded(self, seconds: float) -> None:
        self._recorder.observe(OBJECT_READ_SECONDS, seconds)
        if self._failing:
            log.info("uploads_readable_again")
        self._failing = False

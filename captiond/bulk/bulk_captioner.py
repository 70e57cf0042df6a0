"""Captions of images by the million: their bytes are read, decoded and captioned at once.

Each image is in the memory of one of three stages at any time: it is being read, it waits in a file
of its own for a decoder, or its pixels wait for the model. So the memory does not grow with the
number of images, and no copy of an image outlives its result.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from captiond.bulk.hosted_model import HostedModel, hosted_model
from captiond.bulk.interim import InterimFiles, interim_folder
from captiond.errors import ImageError
from captiond.jobs import DEFAULT_OPTIONS, Options, Outcome, Refused, SpooledImage
from captiond.messages import ModelInfo
from captiond.references.addresses import ReferenceReader, is_object
from captiond.settings.config import Settings
from captiond.settings.upload_settings import UploadSettings
from captiond.shielding import in_thread

AHEAD_BATCHES = 6  # images in memory or in files: three are with the model process, three are read
MOST_AHEAD = 1024
# These images are in memory as a whole, and a caller that is cancelled waits for their threads.
READS_AT_ONCE = 32


class HostSettings(Settings):
    """Settings of a model process whose images lie in a folder of its own, without a cache.

    A service that uses the same data folder would remove files of its spool that it does not know.
    """

    interim: Path

    @property
    def spool(self) -> Path:
        return self.interim


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The outcome of one image. `sha256` is the hash of its bytes, or None if it has none."""

    outcome: Outcome
    sha256: str | None = None


class BulkCaptioner:
    """Captions images with one model process. `bulk_captioner` makes one."""

    def __init__(self, settings: Settings, model: HostedModel, files: InterimFiles) -> None:
        self._reader = ReferenceReader(settings.limits.file_bytes)
        self._model = model
        self._files = files
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._ahead: asyncio.Semaphore | None = None

    async def model(self) -> ModelInfo:
        """Wait until the model is loaded, and return what it is.

        Raises:
            ModelBroken: it cannot be loaded.
        """
        return await self._model.model()

    async def caption_bytes(
        self, content: bytes | None, options: Options = DEFAULT_OPTIONS
    ) -> BulkResult:
        """Return the result of an image. An image that is None has no bytes.

        Raises:
            ModelBroken: the model cannot be loaded any more.
            StorageFailed: the temporary folder has no space.
        """
        async with await self._room():
            with self._files.file() as name:
                return await self._caption(self._stored(name, content or b""), options)

    async def caption_at(self, address: str, options: Options = DEFAULT_OPTIONS) -> BulkResult:
        """Return the result of the image at an address, see `captiond.references.addresses`.

        Raises:
            ModelBroken: the model cannot be loaded any more.
            StorageFailed: the temporary folder has no space.
        """
        async with await self._room():
            with self._files.file() as name:
                return await self._caption(self._fetched(name, address), options)

    async def _stored(self, name: str, content: bytes) -> SpooledImage:
        async with self._reading:
            return await in_thread(self._checked_and_stored, name, content)

    async def _fetched(self, name: str, address: str) -> SpooledImage:
        """Read an image into a file. What blocks is done in one call in a thread."""
        async with self._reading:
            if is_object(address):
                content = await self._reader.read_object(address)
                return await in_thread(self._files.store, name, content)
            return await in_thread(self._copied, name, address)

    def _copied(self, name: str, address: str) -> SpooledImage:
        return self._files.store(name, self._reader.read_file(address))

    def _checked_and_stored(self, name: str, content: bytes) -> SpooledImage:
        self._reader.check(len(content))
        return self._files.store(name, content)

    async def _caption(self, stored: Awaitable[SpooledImage], options: Options) -> BulkResult:
        try:
            image = await stored
        except ImageError as error:
            return BulkResult(Refused.of(error))
        return BulkResult(await self._model.caption(image, options), image.sha256)

    async def _room(self) -> asyncio.Semaphore:
        """Return the semaphore that bounds the images in memory and in files."""
        if self._ahead is None:
            batch = (await self._model.model()).batch_size
            self._ahead = self._ahead or asyncio.Semaphore(min(MOST_AHEAD, AHEAD_BATCHES * batch))
        return self._ahead


@asynccontextmanager
async def bulk_captioner(settings: Settings, device: str) -> AsyncIterator[BulkCaptioner]:
    """Run a model process, its decoders and a temporary folder within the block."""
    with interim_folder(Path(tempfile.gettempdir())) as folder:
        host = host_settings(settings, folder)
        async with hosted_model(host, device) as model:
            yield BulkCaptioner(settings, model, InterimFiles(host.spool))


def host_settings(settings: Settings, interim: Path) -> HostSettings:
    """Return the settings of the model process for one device of these settings.

    There is no fallback: nobody wants a million captions of another model.
    """
    sections = {name: getattr(settings, name) for name in Settings.model_fields}
    sections["cache"] = settings.cache.model_copy(update={"enabled": False})
    sections["uploads"] = UploadSettings()  # they are in the interim folder
    sections["model"] = settings.model.model_copy(update={"standby": False, "fallback": ""})
    return HostSettings(**sections, interim=interim)

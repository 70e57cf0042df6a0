"""Both homes of a spool, for tests that hold for each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from captiond.jobs import SpooledImage
from captiond.settings.config import DataSettings, Settings
from captiond.settings.upload_settings import UploadSettings
from captiond.spool import Spool, open_spool
from tests.s3server import S3Server

FOLDER, BUCKET = "folder", "bucket"


@dataclass(frozen=True)
class Home:
    """A spool whose durable files are in a folder or in a bucket.

    `names` returns the names of the durable files without asking the spool.
    """

    spool: Spool
    folder: Path
    names: Callable[[], set[str]]
    uploads: UploadSettings


def home_in(folder: Path, server: S3Server | None = None, *, endpoint: str = "") -> Home:
    """Return a spool in a data folder, and in the bucket of a server if there is one."""
    uploads = UploadSettings() if server is None else server.settings(endpoint=endpoint)
    settings = Settings(data=DataSettings(dir=folder), uploads=uploads)
    settings.spool.mkdir(parents=True, exist_ok=True)

    def in_folder() -> set[str]:
        return {path.name for path in settings.spool.iterdir()}

    names = in_folder if server is None else server.names
    return Home(open_spool(settings), settings.spool, names, uploads)


async def stored(
    spool: Spool, *contents: bytes, owner: str = "web0-a", durable: bool = True
) -> list[SpooledImage]:
    """Store some images in one file, and return where they are."""
    writer = spool.writer(owner, durable=durable)
    images = []
    for content in contents:
        writer.begin()
        writer.write(memoryview(content))
        writer.flush()
        images.append(writer.end())
    await writer.commit()
    return images

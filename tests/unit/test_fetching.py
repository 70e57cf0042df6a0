"""Images are fetched from object storage ahead of their turn, and wait while it fails."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from captiond.jobs import Refused, SpooledImage
from captiond.metrics import OBJECT_FAILURES, OBJECT_READ_SECONDS
from captiond.recording import Recorder
from captiond.settings.config import DataSettings, Settings
from captiond.spool import open_objects
from captiond.worker import fetching
from captiond.worker.fetching import ImageFetcher
from tests.patience import PATIENCE
from tests.s3server import S3Server
from tests.spools import home_in, stored
from tests.wire import Wire, wire

pytestmark = pytest.mark.anyio


@pytest.fixture
def line(s3: S3Server) -> Iterator[Wire]:
    with wire(s3.endpoint) as made:
        yield made
    s3.clear()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captiond.spool.bucket.RETRIES", {"max_retries": 0})
    monkeypatch.setattr(fetching, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(fetching, "LONGEST_RETRY", 0.02)


def fetcher_of(
    server: S3Server, folder: Path, line: Wire, recorder: Recorder | None = None
) -> ImageFetcher:
    uploads = server.settings(endpoint=line.endpoint)
    return ImageFetcher(
        open_objects(Settings(data=DataSettings(dir=folder), uploads=uploads)),
        recorder or Recorder(),
    )


def wanted() -> bool:
    return True


async def content_of(fetcher: ImageFetcher, image: SpooledImage) -> object:
    async with fetcher.content(image, wanted) as content:
        return content if content is None or isinstance(content, Refused) else bytes(content)


async def test_only_the_bytes_of_an_image_are_fetched(
    s3: S3Server, line: Wire, tmp_path: Path
) -> None:
    contents = [os.urandom(size) for size in (10, 100_000, 1)]
    images = await stored(home_in(tmp_path, s3).spool, *contents)
    fetcher = fetcher_of(s3, tmp_path, line)
    assert [await content_of(fetcher, image) for image in images] == contents
    assert line.requests == {"GET": 3}


async def test_an_image_in_the_folder_is_left_to_its_decoder(
    s3: S3Server, line: Wire, tmp_path: Path
) -> None:
    image = SpooledImage("web0-a-1", 0, 9, "sha")
    assert await content_of(fetcher_of(s3, tmp_path, line), image) is None
    assert await content_of(ImageFetcher(None, Recorder()), image) is None
    assert not line.requests


async def test_an_object_that_is_gone_or_short_is_an_error_of_its_image(
    s3: S3Server, line: Wire, tmp_path: Path
) -> None:
    (image,) = await stored(home_in(tmp_path, s3).spool, b"123")
    fetcher = fetcher_of(s3, tmp_path, line)
    for missing, reason in (
        (SpooledImage(image.file, 0, 4, "sha"), "cut short"),
        (SpooledImage("web0-a/gone", 0, 3, "sha"), "gone from the object storage"),
    ):
        refused = await content_of(fetcher, missing)
        assert isinstance(refused, Refused)
        assert (refused.code, reason in refused.error) == ("spool_error", True)


async def test_an_object_without_the_setting_says_what_is_missing() -> None:
    refused = await content_of(
        ImageFetcher(None, Recorder()), SpooledImage("web0-a/1", 0, 3, "sha")
    )
    assert isinstance(refused, Refused)
    assert "[uploads] url" in refused.error


@pytest.mark.parametrize("refusal", [None, "503 SlowDown", "403 AccessDenied"])
async def test_images_wait_while_the_storage_fails(
    s3: S3Server, line: Wire, tmp_path: Path, refusal: str | None
) -> None:
    """It is cut off, or it refuses. The log says so once, and once that it works again."""
    images = await stored(home_in(tmp_path, s3).spool, b"first", b"second")
    recorder = Recorder()
    fetcher = fetcher_of(s3, tmp_path, line, recorder)
    if refusal is None:
        line.cut()
    else:
        line.rule = lambda method, path: refusal
    with capture_logs() as logs:
        waiting = [asyncio.create_task(content_of(fetcher, image)) for image in images]
        async with asyncio.timeout(PATIENCE):
            while not logs:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        if refusal is None:
            line.repair()
        else:
            line.rule = lambda method, path: None
        assert await asyncio.gather(*waiting) == [b"first", b"second"]
    measured = recorder.take()
    assert measured.counts[OBJECT_FAILURES.name, ("read",)] >= 1
    assert sum(measured.distributions[OBJECT_READ_SECONDS.name, ()].counts) == 2
    assert [entry["event"] for entry in logs] == ["uploads_not_readable", "uploads_readable_again"]


async def test_an_image_that_is_not_wanted_any_more_does_not_wait_for_the_storage(
    s3: S3Server, line: Wire, tmp_path: Path
) -> None:
    (image,) = await stored(home_in(tmp_path, s3).spool, b"first")
    fetcher, asked = fetcher_of(s3, tmp_path, line), iter([True, False])
    line.cut()
    async with fetcher.content(image, lambda: next(asked)) as content:
        assert content is None


async def test_the_bytes_in_memory_are_bounded(
    s3: S3Server, line: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that is larger than the bound is fetched alone."""
    monkeypatch.setattr(fetching, "FETCHED_BYTES", 100)
    sizes = [40, 40, 40, 300, 40]
    images = await stored(home_in(tmp_path, s3).spool, *map(os.urandom, sizes))
    fetcher = fetcher_of(s3, tmp_path, line)
    held: list[int] = []
    most: list[list[int]] = []

    async def hold(image: SpooledImage) -> None:
        async with fetcher.content(image, wanted):
            held.append(image.size)
            most.append(sorted(held))
            await asyncio.sleep(0)
            held.remove(image.size)

    async with asyncio.TaskGroup() as group:
        for image in images:
            group.create_task(hold(image))
    assert len(most) == len(sizes)
    assert all(each == [300] or (300 not in each and len(each) <= 2) for each in most)

"""A pool of real decoder processes, which are killed, taken over, or have no file to read."""

import asyncio
import multiprocessing
from pathlib import Path

import pytest

from captiond.config import DataSettings, ImageSettings, Settings
from captiond.decoding import pool as pool_module
from captiond.decoding.decode import Geometry
from captiond.decoding.jobqueue import DecodedImage
from captiond.decoding.pool import running_pool
from captiond.decoding.slots import Slots
from captiond.jobs import BLAME_LIMIT, RETRYABLE, Lane, Refused, SpooledImage
from captiond.messages import Work
from tests.conftest import png

pytestmark = pytest.mark.anyio
GEOMETRY = Geometry(384, 384, 3)
SLOTS = 5000  # of 442 kB: more address space than a decoder may use for an image


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def bulk(image: SpooledImage) -> Work:
    return Work("ticket", Lane.BULK, image)


async def test_no_image_is_blamed_for_decoders_that_died_idle(tmp_path: Path) -> None:
    """As many decoders die as make an image poison.

    The slots take more memory than a decoder may use, and do not count.
    """
    content = png(1)
    settings = Settings(
        data=DataSettings(dir=tmp_path), images=ImageSettings(decoders=BLAME_LIMIT + 1)
    )
    settings.spool.mkdir()
    (settings.spool / "a").write_bytes(content)
    work = bulk(SpooledImage("a", 0, len(content), "sha"))
    before = set(multiprocessing.active_children())
    async with running_pool(settings, Slots(SLOTS, GEOMETRY)) as pool:
        first = await pool.decode(work)
        assert isinstance(first, DecodedImage), first
        pool.free([first.slot])
        idle = set(multiprocessing.active_children()) - before
        assert len(idle) == BLAME_LIMIT + 1
        for decoder in idle:
            decoder.kill()
            decoder.join()
        assert await pool.decode(work) == first
        pool.free([first.slot])
        assert await pool.decode(work, lambda: False) is None, "nobody wants it any more"
        assert await pool.decode(work) == first, "its slot is free"


async def test_a_short_spool_file_is_a_storage_error_and_not_the_images_fault(
    tmp_path: Path,
) -> None:
    content = png(1)
    settings = Settings(data=DataSettings(dir=tmp_path), images=ImageSettings(decoders=1))
    settings.spool.mkdir()
    (settings.spool / "a").write_bytes(content[:-10])
    short = SpooledImage("a", 0, len(content), "sha")
    missing = SpooledImage("b", 0, len(content), "sha")
    async with running_pool(settings, Slots(1, GEOMETRY)) as pool:
        for image in (short, missing):
            refused = await pool.decode(bulk(image))
            assert isinstance(refused, Refused)
            assert refused.code == "spool_error"
            assert refused.code in RETRYABLE


@pytest.mark.parametrize("reply", ["pickle", "garbage", "too_large", "closed"])
async def test_a_malformed_reply_counts_as_the_death_of_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    """The process that sends it is killed, twice; then its image counts as poison."""
    monkeypatch.setattr(pool_module, "DECODER", "tests.fake_decoder")
    monkeypatch.setattr(pool_module, "EXIT_SECONDS", 0.5)
    settings = Settings(data=DataSettings(dir=tmp_path), images=ImageSettings(decoders=1))
    async with asyncio.timeout(120), running_pool(settings, Slots(1, GEOMETRY)) as pool:
        refused = await pool.decode(bulk(SpooledImage(reply, 0, 1, "sha")))
    assert isinstance(refused, Refused)
    assert refused.code == "poison_image"
    assert not (tmp_path / "owned").exists()

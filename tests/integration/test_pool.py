"""A pool of real decoders, among which somebody kills."""

import multiprocessing
from pathlib import Path

import pytest

from captiond.config import DataSettings, ImageSettings, Settings
from captiond.decoding.decode import Geometry
from captiond.decoding.pool import running_pool
from captiond.decoding.slots import Slots
from captiond.jobs import BLAME_LIMIT, Lane, SpooledImage
from captiond.messages import Decoded
from tests.conftest import png

pytestmark = pytest.mark.anyio
GEOMETRY = Geometry(384, 384, 3)
SLOTS = 5000  # of 442 kB: more address space than a decoder may take for an image


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_no_image_is_blamed_for_decoders_that_died_idle(tmp_path: Path) -> None:
    """Though there are as many of them as deaths that make an image poison; and slots count
    against no decoder's memory.
    """
    content = png(1)
    settings = Settings(
        data=DataSettings(dir=tmp_path), images=ImageSettings(decoders=BLAME_LIMIT + 1)
    )
    settings.spool.mkdir()
    (settings.spool / "a").write_bytes(content)
    image = SpooledImage("a", 0, len(content), "sha")
    before = set(multiprocessing.active_children())
    async with running_pool(settings, Slots(SLOTS, GEOMETRY)) as pool:
        first = await pool.decode(Lane.BULK, image, 0)
        assert isinstance(first, Decoded), first
        idle = set(multiprocessing.active_children()) - before
        assert len(idle) == BLAME_LIMIT + 1
        for decoder in idle:
            decoder.kill()
            decoder.join()
        assert await pool.decode(Lane.BULK, image, SLOTS - 1) == first

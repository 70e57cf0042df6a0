"""The pace of pipelined requests, which all connections of a process share."""

import asyncio

import pytest

from captiond.web.connections.pipelining import PAUSE_SECONDS, Pace

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_connections_that_wait_together_begin_one_after_the_other() -> None:
    """The bounds are lower ones, which a busy machine cannot break."""
    pace, loop = Pace(), asyncio.get_running_loop()
    begun = loop.time()

    async def waited() -> float:
        await pace.wait()
        return loop.time() - begun

    waits = await asyncio.gather(*(waited() for _ in range(100)))
    assert all(wait >= PAUSE_SECONDS * (place + 0.5) for place, wait in enumerate(waits))
    begun = loop.time()
    assert await waited() >= PAUSE_SECONDS / 2, "nobody waits any more"

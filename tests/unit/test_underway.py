"""One leads, the others wait for what it finds."""

import asyncio

import pytest

from captiond.worker.underway import UnderWay

pytestmark = pytest.mark.anyio


async def test_those_who_wait_get_what_the_leader_finds() -> None:
    under_way = UnderWay[str]()
    assert await under_way.join("k", "a") is None
    waiting = [asyncio.create_task(under_way.join("k", ticket)) for ticket in "bc"]
    await asyncio.sleep(0)
    under_way.lead("a", "found")
    assert await asyncio.gather(*waiting) == ["found", "found"]
    assert await under_way.join("k", "d") == "found"
    under_way.leave("a")
    assert await under_way.join("k", "e") is None


async def test_when_the_leader_finds_nothing_the_next_one_leads() -> None:
    under_way = UnderWay[str]()
    assert await under_way.join("k", "a") is None
    waiting = {t: asyncio.create_task(under_way.join("k", t)) for t in "bc"}
    await asyncio.sleep(0)
    under_way.lead("a", None)
    assert await waiting["b"] is None
    assert not waiting["c"].done()
    under_way.lead("b", "found")
    assert await waiting["c"] == "found"
    under_way.leave("b")


async def test_who_does_not_lead_tells_nobody() -> None:
    under_way = UnderWay[str]()
    under_way.lead("x", "found")
    under_way.leave("x")
    assert await under_way.join("k", "a") is None

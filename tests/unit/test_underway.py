"""One ticket leads, the others wait for its result."""

import asyncio

import pytest

from captiond.worker.underway import UnderWay

pytestmark = pytest.mark.anyio


async def test_those_who_wait_get_the_leaders_result() -> None:
    under_way = UnderWay[str]()
    assert await under_way.join("k", "a") is None
    waiting = [asyncio.create_task(under_way.join("k", ticket)) for ticket in "bc"]
    await asyncio.sleep(0)
    under_way.publish("a", "found")
    assert await asyncio.gather(*waiting) == ["found", "found"]
    assert await under_way.join("k", "d") == "found"
    under_way.leave("a")
    assert await under_way.join("k", "e") is None


async def test_if_the_leader_has_no_result_the_next_ticket_leads() -> None:
    under_way = UnderWay[str]()
    assert await under_way.join("k", "a") is None
    waiting = {t: asyncio.create_task(under_way.join("k", t)) for t in "bc"}
    await asyncio.sleep(0)
    under_way.publish("a", None)
    assert await waiting["b"] is None
    assert not waiting["c"].done()
    under_way.publish("b", "found")
    assert await waiting["c"] == "found"
    under_way.leave("b")


async def test_a_cancelled_ticket_takes_no_other_with_it() -> None:
    under_way = UnderWay[str]()
    assert await under_way.join("k", "a") is None
    waiting = {t: asyncio.create_task(under_way.join("k", t)) for t in "bc"}
    await asyncio.sleep(0)
    waiting["b"].cancel()
    await asyncio.sleep(0)
    under_way.publish("a", "found")
    assert await waiting["c"] == "found"


async def test_a_ticket_that_does_not_lead_is_ignored() -> None:
    under_way = UnderWay[str]()
    under_way.publish("x", "found")
    under_way.leave("x")
    assert await under_way.join("k", "a") is None

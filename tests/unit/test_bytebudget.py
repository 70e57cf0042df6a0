"""Bytes that are lent: whoever is cancelled while it waits leaves nothing behind."""

import asyncio

import pytest

from captiond.queues.bytebudget import ByteBudget
from tests.patience import PATIENCE

pytestmark = pytest.mark.anyio
TOTAL = 10


async def borrow(budget: ByteBudget, amount: int, until: asyncio.Event) -> None:
    async with budget.lent(amount):
        await until.wait()


async def borrowing(budget: ByteBudget, amount: int, until: asyncio.Event) -> asyncio.Task[None]:
    """Begin to borrow, and return once the bytes are lent or awaited."""
    task = asyncio.create_task(borrow(budget, amount, until))
    await asyncio.sleep(0)
    return task


async def test_one_that_is_cancelled_when_bytes_come_back_is_only_cancelled() -> None:
    """The bytes come back between the cancellation and the next step of the cancelled task."""
    budget, returned, never = ByteBudget(TOTAL), asyncio.Event(), asyncio.Event()
    first = await borrowing(budget, TOTAL, returned)
    second = await borrowing(budget, TOTAL, never)
    returned.set()
    second.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({first, second})
    assert second.cancelled()
    assert budget.free == TOTAL


async def test_one_that_is_cancelled_does_not_hold_up_the_next_one() -> None:
    budget, returned = ByteBudget(TOTAL), asyncio.Event()
    first = await borrowing(budget, 1, returned)
    second = await borrowing(budget, TOTAL, returned)
    third = await borrowing(budget, 1, returned)
    second.cancel()
    returned.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({first, second, third})
        async with budget.lent(TOTAL):
            assert budget.free == 0
    assert not third.cancelled()
    assert third.exception() is None
    assert budget.free == TOTAL

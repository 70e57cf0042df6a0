"""The memory that decoders share, the log of what they print, and what an image may cost."""

import asyncio
import os

import pytest
from structlog.testing import capture_logs

from captiond.decoding.budget import MemoryBudget, budget_bytes
from captiond.decoding.childoutput import DecoderLog, PrintedOutput
from captiond.decoding.decode import READERS
from captiond.decoding.estimate import RATES, estimated_cost
from captiond.errors import TooMuchMemory
from captiond.host import cgroups, machine
from tests.patience import PATIENCE

pytestmark = pytest.mark.anyio
GIB = 1 << 30


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_memory_is_lent_in_the_order_of_asking() -> None:
    budget = MemoryBudget(100)
    order: list[int] = []

    async def use(number: int, needed: int) -> None:
        async with budget.lent(needed):
            order.append(number)
            assert budget.free >= 0
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number, needed in enumerate((60, 90, 10, 100, 1)):
            group.create_task(use(number, needed))
    assert order == [0, 1, 2, 3, 4]
    assert budget.free == 100


async def test_more_than_there_is_will_never_be_lent() -> None:
    budget = MemoryBudget(100 << 20)
    with pytest.raises(TooMuchMemory, match="takes 200 MB of memory; at most 100 MB"):
        async with budget.lent(200 << 20):
            pass
    assert budget.free == budget.total


async def test_who_stops_waiting_takes_nothing() -> None:
    budget = MemoryBudget(100)

    async def use(needed: int) -> None:
        async with budget.lent(needed):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(use(needed)) for needed in (80, 70, 20)]
        await asyncio.sleep(0)
        assert budget.free == 20
        tasks[1].cancel()  # it was waiting, and the third one behind it
        async with asyncio.timeout(PATIENCE):
            while budget.free != 0:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
    assert budget.free == 100


async def test_memory_is_not_lost_with_who_is_cancelled_at_that_moment() -> None:
    budget = MemoryBudget(100)

    async def use() -> None:
        async with budget.lent(100):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(use()), group.create_task(use())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        second.cancel()
    assert budget.free == 100


@pytest.mark.parametrize(
    ("memory", "setting", "processes", "expected"),
    [
        (16 * GIB, 0, 1, 4 * GIB),
        (16 * GIB, 0, 2, 2 * GIB),
        (2 * GIB, 0, 1, GIB),
        (GIB, 0, 1, GIB // 2),
        (GIB, 3 * GIB, 1, 3 * GIB),
    ],
)
async def test_the_budget_follows_from_the_memory(
    monkeypatch: pytest.MonkeyPatch, memory: int, setting: int, processes: int, expected: int
) -> None:
    monkeypatch.setattr(machine, "meminfo", lambda *_: memory)
    monkeypatch.setattr(cgroups, "memory_limit", lambda: cgroups.UNLIMITED)
    assert budget_bytes(setting, processes) == expected


async def test_printed_output_is_logged_in_few_lines() -> None:
    now = 0.0
    decoders = DecoderLog(lambda: now)
    with capture_logs() as lines:
        for number in range(1000):
            decoders.printed(f"sha {number}", 5, b"\x1b[31m\xff")
            decoders.too_slow("sha", 2)
        now = 60.0
        decoders.printed("last", 9000, b"text")
    shown = [line for line in lines if line["log_level"] == "info"]
    assert [line["event"] for line in shown] == ["decoder_printed", "decoder_printed"]
    assert shown[-1]["suppressed"] == 1999
    assert shown[-1]["bytes"] == 9000


async def test_output_is_taken_once_and_cut_off() -> None:
    output = PrintedOutput()
    assert output.take() == (0, b"")
    os.write(output.descriptor, b"x" * 5000 + b"the end")
    size, text = output.take()
    assert size == 5007
    assert len(text) < 600
    assert text.startswith(b"xxx")
    assert text.endswith(b"the end")
    assert output.take() == (0, b"")
    os.write(output.descriptor, b"short")
    assert output.take() == (5, b"short")
    output.close()


async def test_every_type_has_a_cost() -> None:
    assert RATES.keys() == READERS.keys()
    assert estimated_cost(0) > 0
    assert estimated_cost(100_000) == pytest.approx(0.015, abs=0.005)
    assert estimated_cost(20_000, "png", 50_000_000) > 1
    assert estimated_cost(10, "jpeg", 10, parts_seconds=2) > 2

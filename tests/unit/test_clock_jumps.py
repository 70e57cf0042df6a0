"""The wall clock jumps by 60 days, either way: what was just made stays, and calls are made."""

import asyncio
import time
from pathlib import Path

import pytest

from captiond.callbacks import DeliveryStatus
from captiond.jobs import Refused
from captiond.settings.config import WebhookSettings
from captiond.store import claims, clocks, deliveries, tasks
from captiond.store.engine import Engine
from captiond.supervisor import courier as couriers
from captiond.supervisor.courier import Courier
from captiond.supervisor.outgoing import ResponseHead
from captiond.supervisor.retention import tidy
from captiond.supervisor.steadyclock import NAME, SteadyClock, SteadyTime, advanced
from tests.patience import PATIENCE
from tests.unit.supervised import background, payloads, settings_in, until
from tests.unit.test_cleaner import cleaning
from tests.unit.test_deliveries import failed, refused, task

pytestmark = pytest.mark.anyio
DAY = 86400.0
JUMPS = pytest.mark.parametrize("jump", [60 * DAY, -60 * DAY])
POISON = Refused("died", "poison_image")


class Clocks:
    """A machine's two clocks. The tests move them."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1e9, 50.0

    def steady(self, store: Engine) -> SteadyClock:
        return SteadyClock(
            store,
            longest=30 * DAY,
            wall=lambda: self.wall,
            monotonic=lambda: self.monotonic,
        )

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def test_the_steady_clock_follows_the_wall_and_never_runs_ahead_of_it() -> None:
    def reached(before: float, wall: float) -> float:
        return advanced(SteadyTime(before, before), wall, elapsed=30.0).reached

    assert reached(100.0, 130.0) == 130.0
    assert reached(100.0, 60 * DAY) == 160.0, "it catches up at twice the speed"
    assert reached(60 * DAY, 100.0) == 100.0


async def test_a_start_in_1970_does_not_stop_the_deletion_of_data(store: Engine) -> None:
    """What was stored in 1970 is kept for half of its time at least: 15 of 30 days."""
    clocks_ = Clocks()
    await clocks_.steady(store).now()
    now, clocks_.wall, clocks_.monotonic = clocks_.wall, 0.0, 7.0
    clock = clocks_.steady(store)
    await clock.now()
    clocks_.pass_(DAY)
    assert await clock.now() == DAY, "the last that is stored in 1970"
    clocks_.wall = now + 2 * DAY
    for _ in range(15):
        assert await clock.now() <= 31 * DAY
        clocks_.wall -= 1.0  # a small correction
        clock = clocks_.steady(store)
        await clock.now()
        clocks_.pass_(DAY)
    clocks_.pass_(1.0)
    assert await clock.now() == clocks_.wall


async def test_a_start_continues_from_the_last_stop(store: Engine) -> None:
    clocks_ = Clocks()
    clock = clocks_.steady(store)
    await clock.now()
    clocks_.pass_(30.0)
    await clock.save()
    stopped = clocks_.wall
    clocks_.wall, clocks_.monotonic = stopped + DAY, 7.0  # after a day, on a machine just started
    assert await clocks_.steady(store).now() == stopped


@JUMPS
async def test_what_was_just_finished_stays(store: Engine, tmp_path: Path, jump: float) -> None:
    clocks_, settings = Clocks(), settings_in(tmp_path)
    clock = clocks_.steady(store)
    await clock.now()

    async def finish(task_id: str) -> None:
        await tasks.create_task(store, task(task_id, url=None))
        claimed = await claims.claim(store, 9, owner="m", now=clocks_.wall)
        ends = [claims.ImageOutcome(one.image_id, one.attempt, POISON) for one in claimed.claims]
        await claims.finish(store, ends, now=clocks_.wall)

    await finish("before")
    clocks_.wall += jump
    clocks_.pass_(3600)
    await finish("after")
    async with cleaning(settings, store) as cleaner:
        await tidy(settings, store, cleaner, now=await clock.now())
    restarted = clocks_.steady(store)
    async with cleaning(settings, store) as cleaner:
        await tidy(settings, store, cleaner, now=await restarted.now())
    for task_id in ("before", "after"):
        assert await tasks.read_task(store, task_id) is not None
        assert f"spool-{task_id}" in await tasks.needed_spool_names(store)


async def test_the_clock_goes_on_after_a_restart_and_is_stored_once_a_minute(
    store: Engine,
) -> None:
    clocks_ = Clocks()
    clock = clocks_.steady(store)
    assert await clock.now() == 1e9
    assert await clocks.reached(store, NAME) == 1e9
    clocks_.pass_(59)
    assert await clock.now() == 1e9 + 59
    assert await clocks.reached(store, NAME) == 1e9
    clocks_.pass_(1)
    assert await clock.now() == 1e9 + 60
    assert await clocks.reached(store, NAME) == 1e9 + 60
    clocks_.wall += 60 * DAY
    assert await clocks_.steady(store).now() == 1e9 + 60


@JUMPS
async def test_nothing_is_claimed_twice(store: Engine, jump: float) -> None:
    await tasks.create_task(store, task("t", url=None, images=4))
    first = await claims.claim(store, 2, owner="node/a", now=1e9)
    second = await claims.claim(store, 9, owner="node/b", now=1e9 + jump)
    assert len({one.image_id for one in (*first.claims, *second.claims)}) == 4
    assert (await claims.claim(store, 9, owner="node/c", now=1e9 + 2 * jump)).claims == []


@JUMPS
async def test_webhooks_are_called_soon_after_a_jump(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """One was not called yet; the other was called once, and waits for its second call."""

    async def accept(*_: object, **__: object) -> ResponseHead:
        return ResponseHead(204, 0.0)

    async def are_delivered() -> bool:
        ends = [(await deliveries.of_task(store, name))[0] for name in ("new", "tried")]
        return all(end.status is DeliveryStatus.DELIVERED for end in ends)

    monkeypatch.setattr(couriers, "post", accept)
    monkeypatch.setattr(couriers, "FIRST_GIVE_UP_SECONDS", 0.0)
    now = time.time() - jump  # the clock has jumped since these were made
    for name in ("new", "tried"):
        await tasks.create_task(store, refused(name))
    await deliveries.redeliver(store, "new", now=now)
    await deliveries.redeliver(store, "tried", now=now)
    (tried,) = await deliveries.of_task(store, "tried")
    await deliveries.record(store, [failed(tried, again=now + 5, at=now)])
    await clocks.set_reached(store, {NAME: now})
    settings = settings_in(tmp_path)
    webhooks = WebhookSettings(allow=("a.example",))
    settings = settings.model_copy(update={"webhooks": webhooks})
    courier = Courier(settings, store, payloads(store), SteadyClock(store))
    async with asyncio.timeout(PATIENCE), background(courier.run()):
        await until(are_delivered)


async def test_a_retry_that_is_not_due_waits_although_the_clock_was_corrected_a_little(
    store: Engine,
) -> None:
    await tasks.create_task(store, refused("t"))
    (delivery,) = await deliveries.of_task(store, "t")
    await deliveries.record(store, [failed(delivery, again=500.0, at=100.0)])
    assert await deliveries.bring_forward(store, now=50.0) == 0
    assert await deliveries.bring_forward(store, now=30.0) == 1
    (delivery,) = await deliveries.of_task(store, "t")
    assert delivery.due_at == 30.0

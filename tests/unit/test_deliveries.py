"""Deliveries in a real database: they are made, tried, recorded, restarted and given up."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from captiond.callbacks import DeliveryStatus, RetrySchedule, delay_after, longest_life
from captiond.jobs import Captioned, NewImage, NewTask, Refused, SpooledImage
from captiond.settings.config import DataSettings, Settings, WebhookSettings
from captiond.store import claims, deliveries, expiry, tasks
from captiond.store.deliveries import Attempt, Delivery
from captiond.store.engine import Engine, writing
from captiond.store.tables import DeliveryRow
from captiond.supervisor import courier as couriers
from captiond.supervisor.courier import PER_HOST, Courier
from captiond.supervisor.outgoing import ResponseHead
from captiond.supervisor.steadyclock import SteadyClock
from tests.patience import PATIENCE
from tests.unit.supervised import payloads

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
PENDING, DELIVERED, FAILED = DeliveryStatus


def task(task_id: str, url: str | None = "http://a.example/", images: int = 1) -> NewTask:
    files = tuple(
        NewImage(f"{n}.png", SpooledImage("spool", 9 * n, 9, "sha")) for n in range(images)
    )
    return NewTask(task_id, f"spool-{task_id}", files, 1.0, callback_url=url)


def refused(task_id: str, url: str = "http://a.example/") -> NewTask:
    """Return a task that is finished when it is accepted."""
    image = NewImage("x", None, Refused("no image", "not_an_image"))
    return NewTask(task_id, None, (image,), 1.0, callback_url=url)


async def finish_all(engine: Engine, now: float) -> None:
    taken = (await claims.claim(engine, 99, owner="m", now=now)).claims
    results = [claims.ImageOutcome(claim.image_id, claim.attempt, CAPTION) for claim in taken]
    await claims.finish(engine, results, now=now)


async def due(engine: Engine, now: float, trying: dict[str, str] | None = None) -> list[Delivery]:
    return await deliveries.due(engine, now=now, per_host=2, trying=trying or {})


def failed(delivery: Delivery, *, again: float | None, at: float = 3.0) -> Attempt:
    status = FAILED if again is None else PENDING
    return Attempt(delivery.id, delivery.attempts + 1, at, status, again, 500, "answered 500")


async def test_a_delivery_is_made_when_its_task_is_finished_and_not_before(store: Engine) -> None:
    await tasks.create_task(store, task("t", images=2))
    await tasks.create_task(store, task("quiet", url=None))
    (first, *_) = (await claims.claim(store, 1, owner="m", now=2.0)).claims
    await claims.finish(store, [claims.ImageOutcome(first.image_id, 1, CAPTION)], now=3.0)
    assert await deliveries.of_task(store, "t") == []
    await finish_all(store, now=4.0)
    (delivery,) = await deliveries.of_task(store, "t")
    assert (delivery.status, delivery.attempts, delivery.created_at) == (PENDING, 0, 4.0)
    assert [found.task_id for found in await due(store, 4.0)] == ["t"]
    assert await due(store, 3.9) == []


async def test_each_way_to_finish_a_task_makes_one_delivery(store: Engine) -> None:
    await tasks.create_task(store, refused("r"))
    await tasks.create_task(store, task("c"))
    (claim,) = (await claims.claim(store, 1, owner="m", now=2.0)).claims
    await tasks.cancel(store, "c", now=3.0)
    await tasks.cancel(store, "c", now=4.0)
    late = claims.ImageOutcome(claim.image_id, claim.attempt, CAPTION)
    assert await claims.finish(store, [late], now=5.0) == {}
    for task_id in ("r", "c"):
        assert len(await deliveries.of_task(store, task_id)) == 1


async def test_the_backlog_of_one_host_does_not_delay_another(store: Engine) -> None:
    for number in range(50):
        await tasks.create_task(store, refused(f"a{number}", "http://a.example/"))
    await tasks.create_task(store, refused("z", "http://z.example/"))
    found = await due(store, 2.0)
    assert [delivery.task_id for delivery in found] == ["a0", "a1", "z"]
    trying = {delivery.id: "a.example" for delivery in found[:2]}
    later = 3.0 + deliveries.RESERVE_SECONDS
    assert [delivery.task_id for delivery in await due(store, later, trying)] == ["z"]


async def test_receivers_on_one_host_have_separate_limits(store: Engine) -> None:
    for number in range(3):
        await tasks.create_task(store, refused(f"a{number}", "http://a.example:8080/"))
    await tasks.create_task(store, refused("b", "http://a.example:8081/"))
    found = await due(store, 2.0)
    assert [delivery.task_id for delivery in found] == ["a0", "a1", "b"]
    trying = {delivery.id: delivery.host for delivery in found[:2]}
    later = 3.0 + deliveries.RESERVE_SECONDS
    assert [delivery.task_id for delivery in await due(store, later, trying)] == ["b"]


async def test_a_try_is_recorded_once_and_waits_until_it_is_due(store: Engine) -> None:
    await tasks.create_task(store, refused("t"))
    (delivery,) = await due(store, 2.0)
    await deliveries.record(store, [failed(delivery, again=10.0)])
    await deliveries.record(store, [failed(delivery, again=99.0)])
    assert await due(store, 9.9) == []
    (again,) = await due(store, 10.0)
    assert (again.attempts, again.response, again.error) == (1, 500, "answered 500")
    await deliveries.record(store, [Attempt(again.id, 2, 11.0, DELIVERED, None, 204, None)])
    assert await due(store, 99.0) == []


async def test_a_failed_delivery_can_be_restarted(store: Engine) -> None:
    for task_id in ("t", "u"):
        await tasks.create_task(store, refused(task_id))
    given_up, delivered = await due(store, 2.0)
    await deliveries.record(
        store,
        [
            failed(given_up, again=None),
            Attempt(delivered.id, 1, 3.0, DELIVERED, None, 204, None),
        ],
    )
    assert await deliveries.redeliver_failed(store, now=5.0) == 1
    assert await deliveries.redeliver_failed(store, now=5.0) == 0
    (anew,) = await due(store, 5.0)
    assert (anew.id, anew.attempts, anew.status) == (given_up.id, 0, PENDING)
    assert await deliveries.redeliver(store, "u", now=6.0) == 1
    assert await deliveries.redeliver(store, "nobody", now=6.0) == 0


async def test_a_retried_task_is_reported_again_once_it_is_finished(
    store: Engine,
) -> None:
    await tasks.create_task(store, task("t"))
    (claim,) = (await claims.claim(store, 1, owner="m", now=1.0)).claims
    poison = Refused("died", "poison_image")
    await claims.finish(
        store, [claims.ImageOutcome(claim.image_id, claim.attempt, poison)], now=2.0
    )
    (first,) = await due(store, 2.0)
    assert await tasks.retry(store, "t") == 1
    assert await due(store, 2.0) == [], "the task is open again"
    await finish_all(store, now=5.0)
    (second,) = await due(store, 5.0)
    assert second.id != first.id
    assert [each.id for each in await deliveries.of_task(store, "t")] == [second.id]


async def give_up(engine: Engine, begun_before: float, *trying: str) -> int:
    return await deliveries.give_up(
        engine, begun_before=begun_before, error="too old", trying=set(trying)
    )


async def test_a_delivery_that_is_too_old_is_given_up(store: Engine) -> None:
    for task_id in ("tried", "untried", "trying"):
        await tasks.create_task(store, refused(task_id))
    tried, _, busy = await deliveries.due(store, now=2.0, per_host=9, trying={})
    await deliveries.record(store, [failed(tried, again=99.0)])
    assert await give_up(store, 1.0) == 0
    assert await give_up(store, 1.1, busy.id) == 2
    ends = [(await deliveries.of_task(store, task_id))[0] for task_id in ("tried", "untried")]
    assert [(end.status, end.due_at, end.error) for end in ends] == [(FAILED, None, "too old")] * 2
    assert [end.attempts for end in ends] == [1, 0]
    later = 3.0 + deliveries.RESERVE_SECONDS
    assert [delivery.id for delivery in await due(store, later)] == [busy.id]
    deleted = await expiry.delete_finished(store, before=9.0, images=9)
    assert deleted == 2, "a failed delivery does not keep its task"


async def test_a_restarted_delivery_is_as_young_as_a_new_one(store: Engine) -> None:
    await tasks.create_task(store, refused("t"))
    assert await give_up(store, 50.0) == 1
    assert await deliveries.redeliver_failed(store, now=50.0) == 1
    assert await give_up(store, 50.0) == 0
    (anew,) = await deliveries.of_task(store, "t")
    assert (anew.status, anew.created_at, anew.due_at) == (PENDING, 1.0, 50.0)
    assert await give_up(store, 50.1) == 1


@pytest.mark.parametrize(
    "patience", [RetrySchedule(10, 5, 86400), RetrySchedule(1, 5, 9), RetrySchedule(99, 1, 2)]
)
def test_the_longest_life_is_the_time_of_all_tries(patience: RetrySchedule) -> None:
    delays = [delay_after(n, patience, jitter=1) for n in range(1, patience.attempts)]
    tries = 15 * patience.attempts
    life = longest_life(patience, try_seconds=15)
    assert life == pytest.approx(sum(delay or 0 for delay in delays) + tries)


@asynccontextmanager
async def delivering(engine: Engine, folder: Path) -> AsyncIterator[Courier]:
    """Run a courier that may call a.example."""
    webhook_settings = WebhookSettings(allow=("a.example",))
    settings = Settings(data=DataSettings(dir=folder), webhooks=webhook_settings)
    courier = Courier(settings, engine, payloads(engine), SteadyClock(engine))
    courier.prepare()
    work = asyncio.create_task(courier.run())
    try:
        async with asyncio.timeout(PATIENCE):
            yield courier
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


class Hanging:
    """A receiver that is called and never answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._called = asyncio.Semaphore(0)
        monkeypatch.setattr(couriers, "post", self._post)

    async def _post(self, *_: Any, **__: Any) -> ResponseHead:
        self.calls += 1
        self._called.release()
        await asyncio.Event().wait()
        raise AssertionError

    async def wait_for_calls(self, number: int) -> None:
        for _ in range(number):
            await self._called.acquire()


async def wait_for_rounds(monkeypatch: pytest.MonkeyPatch, courier: Courier, number: int) -> None:
    """Wait until the courier has queried the due deliveries `number` times."""
    rounds = asyncio.Semaphore(0)

    async def counted(*args: Any, **kwargs: Any) -> list[Delivery]:
        found = await due_as_it_is(*args, **kwargs)
        rounds.release()
        return found

    due_as_it_is = deliveries.due
    monkeypatch.setattr(deliveries, "due", counted)
    for _ in range(number):
        courier.hint()
        await rounds.acquire()


async def test_a_courier_gives_up_what_waits_behind_calls_that_hang(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the defaults, all tries take 91 hours. Only an older delivery that waits is given up."""
    hanging, now = Hanging(monkeypatch), time.time()
    monkeypatch.setattr(couriers, "CHECK_SECONDS", 0.0)
    for number in range(PER_HOST):
        await tasks.create_task(store, refused(f"called{number}"))
    async with delivering(store, tmp_path) as courier:
        await hanging.wait_for_calls(PER_HOST)
        for task_id, hours in (("young", 90), ("old", 92)):
            await tasks.create_task(store, refused(task_id))
            await begin(store, task_id, now - hours * 3600)
        await wait_for_rounds(monkeypatch, courier, 2)
        assert await status(store, "old") is PENDING, (
            "after a start, nothing is given up for an hour"
        )
        monkeypatch.setattr(courier, "_give_up_from", 0.0)
        await wait_for_rounds(monkeypatch, courier, 2)
        (old,) = await deliveries.of_task(store, "old")
        assert (old.status, old.error) == (FAILED, "given up: not accepted within 91 h")
        assert [await status(store, task_id) for task_id in ("young", "called0")] == [PENDING] * 2


async def begin(engine: Engine, task_id: str, moment: float) -> None:
    """Set the time at which a task's delivery was made."""
    of_task = update(DeliveryRow).where(DeliveryRow.task_id == task_id)
    async with writing(engine) as connection:
        await connection.execute(of_task.values(created_at=moment, due_at=moment))


async def status(engine: Engine, task_id: str) -> DeliveryStatus:
    (delivery,) = await deliveries.of_task(engine, task_id)
    return delivery.status


async def test_a_row_from_before_ports_counted_has_no_more_calls_than_others(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging(monkeypatch)
    for number in range(3 * PER_HOST):
        await tasks.create_task(store, refused(f"t{number}", "http://a.example:8080/"))
    async with writing(store) as connection:
        await connection.execute(update(DeliveryRow).values(host="a.example"))
    async with delivering(store, tmp_path) as courier:
        await hanging.wait_for_calls(PER_HOST)
        await wait_for_rounds(monkeypatch, courier, 4)
        assert hanging.calls == PER_HOST

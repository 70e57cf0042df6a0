"""Deliveries in a real database: made with the end of their task, due, fenced, tried anew."""

import pytest

from captiond.callbacks import DeliveryStatus
from captiond.jobs import Captioned, NewImage, NewTask, Refused
from captiond.store import claims, tasks, webhooks
from captiond.store.engine import Engine
from captiond.store.webhooks import Delivery, Tried

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)
PENDING, DELIVERED, FAILED = DeliveryStatus


def task(task_id: str, url: str | None = "http://a.example/", images: int = 1) -> NewTask:
    files = tuple(NewImage(f"{n}.png", "sha", 9 * n, 9) for n in range(images))
    return NewTask(task_id, f"spool-{task_id}", files, 1.0, callback_url=url)


def refused(task_id: str, url: str = "http://a.example/") -> NewTask:
    """A task that ends as it is accepted."""
    image = NewImage("x", None, 0, 0, Refused("no image", "not_an_image"))
    return NewTask(task_id, None, (image,), 1.0, callback_url=url)


async def finish_all(engine: Engine, now: float) -> None:
    taken = await claims.claim(engine, 99, owner="m", now=now)
    results = [claims.Finished(claim.image_id, claim.attempt, CAPTION) for claim in taken]
    await claims.finish(engine, results, now=now)


async def due(engine: Engine, now: float, trying: dict[str, str] | None = None) -> list[Delivery]:
    return await webhooks.due(engine, now=now, per_host=2, trying=trying or {})


def failed(delivery: Delivery, *, again: float | None) -> Tried:
    status = FAILED if again is None else PENDING
    return Tried(delivery.id, delivery.attempts + 1, 3.0, status, again, 500, "answered 500")


async def test_a_delivery_is_made_when_its_task_ends_and_only_then(store: Engine) -> None:
    await tasks.create_task(store, task("t", images=2))
    await tasks.create_task(store, task("quiet", url=None))
    (first, *_) = await claims.claim(store, 1, owner="m", now=2.0)
    await claims.finish(store, [claims.Finished(first.image_id, 1, CAPTION)], now=3.0)
    assert await webhooks.of_task(store, "t") == []
    await finish_all(store, now=4.0)
    (delivery,) = await webhooks.of_task(store, "t")
    assert (delivery.status, delivery.attempts, delivery.created_at) == (PENDING, 0, 4.0)
    assert [found.task_id for found in await due(store, 4.0)] == ["t"]
    assert await due(store, 3.9) == []


async def test_each_way_a_task_ends_makes_one_delivery(store: Engine) -> None:
    await tasks.create_task(store, refused("r"))
    await tasks.create_task(store, task("c"))
    (claim,) = await claims.claim(store, 1, owner="m", now=2.0)
    await tasks.cancel(store, "c", now=3.0)
    await tasks.cancel(store, "c", now=4.0)
    late = claims.Finished(claim.image_id, claim.attempt, CAPTION)
    assert await claims.finish(store, [late], now=5.0) == {}
    for task_id in ("r", "c"):
        assert len(await webhooks.of_task(store, task_id)) == 1


async def test_a_host_with_a_backlog_stands_before_no_other(store: Engine) -> None:
    for number in range(50):
        await tasks.create_task(store, refused(f"a{number}", "http://a.example/"))
    await tasks.create_task(store, refused("z", "http://z.example/"))
    found = await due(store, 2.0)
    assert [delivery.task_id for delivery in found] == ["a0", "a1", "z"]
    trying = {delivery.id: "a.example" for delivery in found[:2]}
    assert [delivery.task_id for delivery in await due(store, 2.0, trying)] == ["z"]


async def test_a_try_is_recorded_once_and_waits_until_it_is_due(store: Engine) -> None:
    await tasks.create_task(store, refused("t"))
    (delivery,) = await due(store, 2.0)
    await webhooks.record(store, [failed(delivery, again=10.0)])
    await webhooks.record(store, [failed(delivery, again=99.0)])
    assert await due(store, 9.9) == []
    (again,) = await due(store, 10.0)
    assert (again.attempts, again.response, again.error) == (1, 500, "answered 500")
    await webhooks.record(store, [Tried(again.id, 2, 11.0, DELIVERED, None, 204, None)])
    assert await due(store, 99.0) == []


async def test_what_was_given_up_can_be_tried_anew(store: Engine) -> None:
    for task_id in ("t", "u"):
        await tasks.create_task(store, refused(task_id))
    given_up, delivered = await due(store, 2.0)
    await webhooks.record(
        store,
        [
            failed(given_up, again=None),
            Tried(delivered.id, 1, 3.0, DELIVERED, None, 204, None),
        ],
    )
    assert await webhooks.redeliver_failed(store, now=5.0) == 1
    assert await webhooks.redeliver_failed(store, now=5.0) == 0
    (anew,) = await due(store, 5.0)
    assert (anew.id, anew.attempts, anew.status) == (given_up.id, 0, PENDING)
    assert await webhooks.redeliver(store, delivered.task_id, now=6.0) == 1
    assert await webhooks.redeliver(store, "nobody", now=6.0) == 0


async def test_a_task_that_is_tried_again_is_told_of_once_more_and_not_before(
    store: Engine,
) -> None:
    await tasks.create_task(store, task("t"))
    (claim,) = await claims.claim(store, 1, owner="m", now=1.0)
    poison = Refused("died", "poison_image")
    await claims.finish(store, [claims.Finished(claim.image_id, claim.attempt, poison)], now=2.0)
    (first,) = await due(store, 2.0)
    assert await tasks.retry(store, "t") == 1
    assert await due(store, 2.0) == [], "it has not ended after all"
    await finish_all(store, now=5.0)
    (second,) = await due(store, 5.0)
    assert second.id != first.id
    assert await webhooks.of_task(store, "t") == [second]

"""The status of a task is built again only if the task has changed, and a large one in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event
from starlette.responses import JSONResponse

from captiond.jobs import Captioned, NewImage, NewTask, Refused, SpooledImage, TaskView
from captiond.store import claims, tasks
from captiond.store.engine import Engine
from captiond.store.snapshots import read_snapshot
from captiond.web import status_cache
from captiond.web.schemas import encoded_status, task_status
from captiond.web.status_cache import SMALL_TASK, StatusCache

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cät", ("cat",), "m", 4, 3, score=1e-05)
RETRYABLE = Refused("too slow", "image_too_slow")
SIZES = [3, SMALL_TASK, SMALL_TASK + 1]


async def new_task(store: Engine, images: int, task_id: str = "t") -> None:
    spooled = [SpooledImage("file", 9 * n, 9, f"sha{n}") for n in range(images)]
    files = tuple(NewImage(f"{n}.png", image) for n, image in enumerate(spooled))
    await tasks.create_task(store, NewTask(task_id, "file", files, 1.0))


async def run(store: Engine, outcomes: list[Captioned | Refused]) -> None:
    """Claim as many images as there are outcomes, and finish them."""
    claimed = (await claims.claim(store, len(outcomes), owner="model0", now=2.0)).claims
    results = [
        claims.ImageOutcome(claim.image_id, claim.attempt, outcome)
        for claim, outcome in zip(claimed, outcomes, strict=True)
    ]
    await claims.finish(store, results, now=3.0)


async def expected(store: Engine, task_id: str = "t") -> bytes:
    """Return the body that Starlette makes of the whole task."""
    task = await tasks.read_task(store, task_id)
    assert task is not None
    return bytes(JSONResponse(task_status(task)).body)


@contextmanager
def reading_images(store: Engine) -> Iterator[list[str]]:
    """List the statements that read the results of images."""
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        if "images.result" in arguments[2]:
            statements.append(arguments[2])

    event.listen(store.sql.sync_engine, "before_cursor_execute", note)
    yield statements
    event.remove(store.sql.sync_engine, "before_cursor_execute", note)


@pytest.mark.parametrize("images", SIZES)
async def test_each_change_is_seen(store: Engine, images: int) -> None:
    cache = StatusCache(store)
    await new_task(store, images)
    bodies = [await cache.status("t")]
    assert bodies[-1] == await expected(store)
    await claims.claim(store, 1, owner="model1", now=2.0)
    steps: list[list[Captioned | Refused]] = [[CAPTION], [RETRYABLE] * (images - 2)]
    for outcomes in steps:
        bodies.append(await cache.status("t"))
        assert bodies[-1] == await expected(store)
        await run(store, outcomes)
    bodies.append(await cache.status("t"))
    await tasks.cancel(store, "t", now=4.0)
    bodies.append(await cache.status("t"))
    assert bodies[-1] == await expected(store)
    assert len(set(bodies)) == len(bodies)


@pytest.mark.parametrize("images", SIZES)
async def test_an_unchanged_task_is_not_read_again(store: Engine, images: int) -> None:
    cache = StatusCache(store)
    await new_task(store, images)
    await run(store, [CAPTION] * (images - 1))
    with reading_images(store) as statements:
        first = await cache.status("t")
        assert len(statements) == 1
        assert await cache.status("t") is first
        assert len(statements) == 1
        await run(store, [RETRYABLE])
        assert await cache.status("t") == await expected(store) != first


async def test_a_retry_is_seen_even_if_all_numbers_are_as_before(store: Engine) -> None:
    """At the second poll another image has failed than at the first, but as many have."""
    cache = StatusCache(store)
    await new_task(store, 3)
    await run(store, [CAPTION, RETRYABLE])
    first = await cache.status("t")
    await run(store, [RETRYABLE])
    await tasks.retry(store, "t")
    _, last = (await claims.claim(store, 2, owner="model0", now=2.0)).claims
    failed = claims.ImageOutcome(last.image_id, last.attempt, RETRYABLE)
    await claims.finish(store, [failed], now=3.0)
    assert await cache.status("t") == await expected(store) != first


@pytest.mark.parametrize(("images", "in_thread"), [(SMALL_TASK, False), (SMALL_TASK + 1, True)])
async def test_a_large_status_is_built_in_a_thread(
    store: Engine, monkeypatch: pytest.MonkeyPatch, images: int, in_thread: bool
) -> None:
    threads: list[threading.Thread] = []

    def build(task: TaskView) -> bytes:
        threads.append(threading.current_thread())
        return encoded_status(task)

    monkeypatch.setattr(status_cache, "encoded_status", build)
    await new_task(store, images)
    await StatusCache(store).status("t")
    assert [thread is not threading.current_thread() for thread in threads] == [in_thread]


async def test_the_least_recently_used_status_is_dropped(store: Engine) -> None:
    for task_id in ("a", "b", "c"):
        await new_task(store, 3, task_id)
    size = len(await expected(store, "a"))
    cache = StatusCache(store, max_bytes=2 * size)
    for task_id in ("a", "b", "a", "c"):  # b is dropped
        await cache.status(task_id)
    with reading_images(store) as statements:
        await cache.status("a")
        await cache.status("c")
        assert statements == []
        await cache.status("b")
        assert len(statements) == 1


async def test_a_status_that_is_larger_than_the_cache_is_not_kept(store: Engine) -> None:
    await new_task(store, 3)
    cache = StatusCache(store, max_bytes=10)
    with reading_images(store) as statements:
        assert await cache.status("t") == await cache.status("t") == await expected(store)
        assert len(statements) == 3


async def test_an_unknown_task_has_no_status(store: Engine) -> None:
    cache = StatusCache(store)
    assert await cache.status("t") is None
    assert await read_snapshot(store, "t") is None


async def test_a_snapshot_is_the_whole_task(store: Engine) -> None:
    await new_task(store, 3)
    await run(store, [CAPTION, RETRYABLE])
    snapshot = await read_snapshot(store, "t")
    assert snapshot is not None
    assert snapshot.view() == await tasks.read_task(store, "t")
    version = snapshot.version
    assert (version.total, version.done, version.failed, version.attempts) == (3, 2, 1, 2)
    same = await read_snapshot(store, "t", known=version)
    assert same == replace(snapshot, images=None)

"""Of a status only what is new is built, and much of it in a thread; it is sent in pieces."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from starlette.responses import JSONResponse

from captiond.jobs import Captioned, NewImage, NewTask, Refused, SpooledImage, TaskCounts
from captiond.store import claims, tasks
from captiond.store.engine import Engine
from captiond.store.snapshots import TaskSnapshot, read_snapshot, read_state
from captiond.web.async_tasks import status_cache
from captiond.web.async_tasks.encoded_task import PIECE_BYTES, EncodedTask, Page, encoded_task
from captiond.web.async_tasks.status_cache import FEW_IMAGES, PACE_SECONDS, StatusCache
from captiond.web.schemas import task_status
from tests.unit.webprocess import web_process

pytestmark = pytest.mark.anyio
CAPTION = Captioned("a cät", ("cat",), "m", 4, 3, score=1e-05)
RETRYABLE = Refused("too slow", "image_too_slow")
PATH = "/async-batch-caption/status/t"
SIZES = [3, FEW_IMAGES, FEW_IMAGES + 1]


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


async def body(cache: StatusCache, task_id: str = "t") -> bytes:
    """Return the whole body, as a client gets it."""
    status = await cache.status(task_id)
    assert status is not None
    pieces = [piece async for piece in cache.pieces(status)]
    assert sum(map(len, pieces)) == status.size
    return b"".join(pieces)


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
    bodies = [await body(cache)]
    assert bodies[-1] == await expected(store)
    await claims.claim(store, 1, owner="model1", now=2.0)
    steps: list[list[Captioned | Refused]] = [[CAPTION], [RETRYABLE] * (images - 2)]
    for outcomes in steps:
        bodies.append(await body(cache))
        assert bodies[-1] == await expected(store)
        await run(store, outcomes)
    bodies.append(await body(cache))
    await tasks.cancel(store, "t", now=4.0)
    bodies.append(await body(cache))
    assert bodies[-1] == await expected(store)
    assert len(set(bodies)) == len(bodies)


@pytest.mark.parametrize("images", SIZES)
async def test_an_unchanged_task_is_not_read_again(store: Engine, images: int) -> None:
    cache = StatusCache(store)
    await new_task(store, images)
    await run(store, [CAPTION] * (images - 1))
    with reading_images(store) as statements:
        first = await body(cache)
        assert len(statements) == 1
        assert await body(cache) == first
        assert len(statements) == 1
        await run(store, [RETRYABLE])
        assert await body(cache) == await expected(store) != first


async def test_a_retry_is_seen_even_if_all_numbers_are_as_before(store: Engine) -> None:
    """At the second poll another image has failed than at the first, but as many have."""
    cache = StatusCache(store)
    await new_task(store, 3)
    await run(store, [CAPTION, RETRYABLE])
    first = await body(cache)
    await run(store, [RETRYABLE])
    await tasks.retry(store, "t")
    _, last = (await claims.claim(store, 2, owner="model0", now=2.0)).claims
    failed = claims.ImageOutcome(last.image_id, last.attempt, RETRYABLE)
    await claims.finish(store, [failed], now=3.0)
    assert await body(cache) == await expected(store) != first


@pytest.mark.parametrize(("images", "in_thread"), [(FEW_IMAGES, False), (FEW_IMAGES + 1, True)])
async def test_many_results_are_encoded_in_a_thread(
    store: Engine, monkeypatch: pytest.MonkeyPatch, images: int, in_thread: bool
) -> None:
    threads: list[threading.Thread] = []

    def build(*args: Any, **kwargs: Any) -> EncodedTask:
        threads.append(threading.current_thread())
        return encoded_task(*args, **kwargs)

    monkeypatch.setattr(status_cache, "encoded_task", build)
    await new_task(store, images)
    await StatusCache(store).status("t")
    assert [thread is not threading.current_thread() for thread in threads] == [in_thread]


async def test_only_new_results_are_encoded(store: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results before the first image that is open or can be retried stay as they are."""
    rows: list[int] = []

    def build(snapshot: TaskSnapshot, *args: Any, **kwargs: Any) -> EncodedTask:
        rows.append(len(snapshot.images))
        return encoded_task(snapshot, *args, **kwargs)

    monkeypatch.setattr(status_cache, "encoded_task", build)
    cache = StatusCache(store)
    await new_task(store, 100)
    for outcomes in ([CAPTION] * 60, [CAPTION] * 20, [RETRYABLE], [CAPTION] * 9, [CAPTION] * 10):
        await run(store, [*outcomes])
        assert await body(cache) == await expected(store)
    assert rows == [100, 40, 20, 20, 20]
    assert await tasks.retry(store, "t") == 1
    await run(store, [CAPTION])
    assert await body(cache) == await expected(store)


async def test_the_least_recently_used_status_is_dropped(store: Engine) -> None:
    for task_id in ("a", "b", "c"):
        await new_task(store, 3, task_id)
        await run(store, [CAPTION] * 3)
    cache = StatusCache(store, max_bytes=2 * len(await expected(store, "a")))
    for task_id in ("a", "b", "a", "c"):  # b is dropped
        await cache.status(task_id)
    with reading_images(store) as statements:
        await cache.status("a")
        await cache.status("c")
        assert statements == []
        await cache.status("b")
        assert len(statements) == 1


async def test_only_the_last_status_is_kept_if_it_is_larger_than_the_cache(store: Engine) -> None:
    for task_id in ("a", "b"):
        await new_task(store, 3, task_id)
        await run(store, [CAPTION] * 3)
    cache = StatusCache(store, max_bytes=10)
    with reading_images(store) as statements:
        for task_id in ("a", "a", "b", "a"):
            await cache.status(task_id)
        assert len(statements) == 3


async def test_a_large_status_is_sent_in_pieces(store: Engine) -> None:
    await new_task(store, 1000)
    await run(store, [CAPTION] * 1000)
    cache = StatusCache(store)
    status = await cache.status("t")
    assert status is not None
    sizes = [len(piece) async for piece in cache.pieces(status)]
    assert len(sizes) > 2
    assert max(sizes) < PIECE_BYTES + 1000


async def test_pages_have_the_results_of_their_images(store: Engine, tmp_path: Path) -> None:
    await new_task(store, 5)
    await run(store, [CAPTION, RETRYABLE, CAPTION])
    async with web_process(store, tmp_path) as web:
        whole = (await web.client.get(PATH)).json()
        pages: list[list[object]] = []
        offset: int | None = 0
        while offset is not None:
            page = (await web.client.get(PATH, params={"offset": offset, "limit": 2})).json()
            pages.append(page.pop("result"))
            offset = page.pop("next_offset")
            assert page == {key: value for key, value in whole.items() if key != "result"}
        assert pages == [whole["result"][:2], whole["result"][2:], []]
        assert (await web.client.get(PATH, params={"offset": 9})).json()["result"] == []


async def test_a_large_page_is_a_part_of_the_encoded_task(store: Engine) -> None:
    await new_task(store, 3 * FEW_IMAGES)
    await run(store, [CAPTION] * 100)
    cache = StatusCache(store)
    whole = json.loads(await body(cache))["result"]
    with reading_images(store) as statements:
        for offset, following in ((10, 61), (90, 141), (999, None)):
            status = await cache.status("t", Page(offset, FEW_IMAGES + 1))
            assert status is not None
            page = json.loads(b"".join(status.pieces()))
            assert page["result"] == whole[offset : offset + FEW_IMAGES + 1]
            assert page["next_offset"] == following
        assert statements == []


@pytest.mark.parametrize(
    "query", [{"offset": "-1"}, {"limit": "0"}, {"limit": "x"}, {"offset": "9" * 30}]
)
async def test_a_wrong_part_is_refused(
    store: Engine, tmp_path: Path, query: dict[str, str]
) -> None:
    await new_task(store, 1)
    async with web_process(store, tmp_path) as web:
        response = await web.client.get(PATH, params=query)
    assert response.status_code == 422
    (problem,) = response.json()["detail"]
    assert problem["loc"] == ["query", *query]


async def test_an_unchanged_status_is_not_sent_again(store: Engine, tmp_path: Path) -> None:
    await new_task(store, 2)
    async with web_process(store, tmp_path) as web:
        etags = []
        for outcomes in ([], [CAPTION], [RETRYABLE]):
            await run(store, [*outcomes])
            first = await web.client.get(PATH)
            etags.append(first.headers["etag"])
            with reading_images(store) as statements:
                for known in (etags[-1], f'"x", W/{etags[-1]}', "*"):
                    again = await web.client.get(PATH, headers={"If-None-Match": known})
                    assert (again.status_code, again.content) == (304, b"")
                    assert again.headers["etag"] == etags[-1]
                assert statements == []
        await tasks.retry(store, "t")
        for known in (*etags, '"x"', ""):
            changed = await web.client.get(PATH, headers={"If-None-Match": known})
            assert changed.status_code == 200
        part = await web.client.get(PATH, params={"limit": 1})
        assert part.headers["etag"] != changed.headers["etag"]
        unknown = await web.client.get(f"{PATH}x", headers={"If-None-Match": "*"})
        assert unknown.status_code == 404


async def test_an_unknown_task_has_no_status(store: Engine) -> None:
    cache = StatusCache(store)
    assert await cache.status("t") is None
    assert await read_snapshot(store, "t") is None


async def test_a_snapshot_is_the_whole_task_or_a_part_of_it(store: Engine) -> None:
    await new_task(store, 3)
    await run(store, [CAPTION, RETRYABLE])
    snapshot = await read_snapshot(store, "t")
    assert snapshot is not None
    assert snapshot.view() == await tasks.read_task(store, "t")
    assert snapshot.counts == TaskCounts(total=3, done=2, captioned=1, failed=1)
    part = await read_snapshot(store, "t", first=1, limit=1)
    assert part == replace(snapshot, images=snapshot.images[1:2])
    assert await read_state(store, "t") == snapshot.state


async def test_statuses_that_are_sent_at_the_same_time_leave_time_for_others(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    await new_task(store, 1000)
    await new_task(store, 1, "small")
    await run(store, [CAPTION] * 1001)
    cache = StatusCache(store)
    large, small = await cache.status("t"), await cache.status("small")
    assert large is not None
    assert small is not None
    monkeypatch.setattr(asyncio, "sleep", note)
    alone = [piece async for piece in cache.pieces(large)]
    assert pauses == [], "one alone is sent at full speed"
    first, second = cache.pieces(large), cache.pieces(large)
    assert await anext(first) == await anext(second) == alone[0]
    assert [piece async for piece in cache.pieces(small)] == [*small.pieces()]
    assert pauses == [], "a small one does not wait"
    assert await anext(first) == alone[1]
    assert pauses == [PACE_SECONDS]

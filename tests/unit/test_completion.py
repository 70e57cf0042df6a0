"""The end of images: few transactions, and measurements before results."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from captiond.clients import Client
from captiond.errors import StoreRefused
from captiond.jobs import (
    Captioned,
    Generation,
    Lane,
    NewImage,
    NewTask,
    Options,
    Refused,
    SpooledImage,
    Status,
)
from captiond.messages import Finished, Measured, Message, Timings, Work
from captiond.metrics import IMAGES_FINISHED, STAGE_SECONDS
from captiond.processes.channel import Channel
from captiond.recording import Recorder
from captiond.store import captions, claims, tasks
from captiond.store.engine import Engine
from captiond.tags import TagFilter
from captiond.worker import completion
from captiond.worker.completion import Completion, FinishedImage
from captiond.worker.fetching import ImageFetcher
from captiond.worker.intake import ImageIntake
from captiond.worker.known import KnownCaptions
from captiond.worker.recipe import Recipe
from captiond.worker.reporting import Reporter
from tests.patience import PATIENCE

pytestmark = pytest.mark.anyio
IMAGES = 500
RECIPE = Recipe("m", "f", lambda _: "tagger", Generation(), TagFilter(), True)
CAPTION = Captioned("a cat", (), "m", 4, 3)


@asynccontextmanager
async def channels() -> AsyncIterator[tuple[Channel, Channel]]:
    """The two ends of a pipe."""
    one, other = multiprocessing.Pipe()
    ends = await Channel.open(one), await Channel.open(other)
    try:
        yield ends
    finally:
        for end in ends:
            end.close()


async def claimed(store: Engine) -> list[Work]:
    """The images of a new task, claimed for this process."""
    images = [NewImage(f"{n}.png", SpooledImage("spool", n, 1, f"sha{n}")) for n in range(IMAGES)]
    await tasks.create_task(store, NewTask("t", "spool", tuple(images), 1.0))
    taken = (await claims.claim(store, IMAGES, owner="node/model", now=2.0)).claims
    return [
        Work(f"image:{claim.image_id}", Lane.BULK, claim.image, claim.image_id, claim.attempt)
        for claim in taken
    ]


async def received(channel: Channel, count: int) -> list[Message]:
    """The next messages of a channel."""
    async with asyncio.timeout(PATIENCE):
        return [await channel.receive() for _ in range(count)]


def keys(works: list[Work]) -> list[str]:
    return [captions.cache_key(work.image.sha256, RECIPE.cache_key(work)) for work in works]


async def test_known_images_of_a_task_take_a_handful_of_transactions(store: Engine) -> None:
    works = await claimed(store)
    await captions.remember(store, dict.fromkeys(keys(works), CAPTION), now=1.0)
    transactions = 0

    def count(_: object) -> None:
        nonlocal transactions
        transactions += 1

    event.listen(store.sql.sync_engine, "commit", count)
    async with channels() as (ours, theirs):
        reporter = Reporter(theirs, "model0-1f")
        known = KnownCaptions(RECIPE, store)
        completion = Completion(known, store, reporter)
        intake = ImageIntake(RECIPE, known, ImageFetcher(None, Recorder()), completion, reporter)
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(intake.accept(work))
        finished = await received(ours, IMAGES)
    assert transactions <= 10
    assert all(isinstance(message, Finished) and message.stored for message in finished)
    assert any(isinstance(message, Finished) and message.task for message in finished)
    view = await tasks.read_task(store, "t")
    assert view is not None
    assert view.status is Status.COMPLETED
    expected = replace(CAPTION, cached=True, alt_text="A cat.")
    assert {image.outcome for image in view.images} == {expected}


async def test_measurements_of_a_batch_are_sent_before_its_results(store: Engine) -> None:
    works = [Work(str(n), Lane.INTERACTIVE, SpooledImage("s", n, 1, f"{n}")) for n in range(3)]
    async with channels() as (ours, theirs):
        reporter = Reporter(theirs, "model0-1f")
        known = KnownCaptions(RECIPE, store)
        completion = Completion(known, store, reporter)
        timings = Timings(decode=0.1, queue=0.2, model=0.3, tags=0.4)
        reporter.batch_captioned(Lane.INTERACTIVE, 3, 0.3, {})
        await completion.finish_batch(
            [FinishedImage(work, CAPTION, timings, whole=CAPTION) for work in works]
        )
        messages = await received(ours, 4)
    measured, *finished = messages
    assert isinstance(measured, Measured)
    counts = measured.measurements.counts
    assert counts[(IMAGES_FINISHED.name, ("interactive", "captioned"))] == 3
    assert counts[("captiond_batches_total", ("model0", "interactive"))] == 1
    decode = measured.measurements.distributions[(STAGE_SECONDS.name, ("decode",))]
    assert sum(decode.counts) == 3
    assert decode.sum == pytest.approx(0.3)
    assert [message.ticket for message in finished if isinstance(message, Finished)] == list("012")
    assert await captions.look_up(store, keys(works)) == [replace(CAPTION, cached=True)] * 3


async def test_a_caption_without_cache_is_not_stored(store: Engine) -> None:
    work = Work(
        "1", Lane.INTERACTIVE, SpooledImage("s", 0, 1, "sha"), options=Options(no_cache=True)
    )
    async with channels() as (_, theirs):
        known = KnownCaptions(RECIPE, store)
        completion = Completion(known, store, Reporter(theirs, "model0-1f"))
        await completion.finish(FinishedImage(work, CAPTION, whole=CAPTION))
    assert await captions.look_up(store, keys([work])) == [None]


async def test_an_outcome_that_the_database_refuses_fails_its_image_only(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the image would be claimed and refused again, for ever."""
    real = claims.finish

    async def finish(engine: Engine, outcomes: Sequence[claims.ImageOutcome], *, now: float) -> Any:
        if any(outcome.outcome == replace(CAPTION, caption="refused") for outcome in outcomes):
            raise StoreRefused("the database takes no such value")
        return await real(engine, outcomes, now=now)

    monkeypatch.setattr(completion, "finish", finish)
    works = (await claimed(store))[:3]
    async with channels() as (ours, _):
        reporter = Reporter(ours, "model0-1")
        finishing = Completion(KnownCaptions(RECIPE, store), store, reporter)
        captions_ = [CAPTION, replace(CAPTION, caption="refused"), CAPTION]
        await finishing.finish_batch(
            [FinishedImage(work, outcome) for work, outcome in zip(works, captions_, strict=True)]
        )
    task = await tasks.read_task(store, "t")
    assert task is not None
    statuses = [image.status for image in task.images[:3]]
    assert statuses == [Status.COMPLETED, Status.FAILED, Status.COMPLETED]
    assert isinstance(task.images[1].outcome, Refused)
    assert task.images[1].outcome.code == "internal_error"


async def test_a_client_does_not_wait_for_the_same_image_of_another_client(store: Engine) -> None:
    """The other one may be behind a thousand images."""
    known = KnownCaptions(RECIPE, store)
    image = SpooledImage("spool", 0, 1, "sha")
    first = Work("1", Lane.INTERACTIVE, image, client=Client("a"))
    assert await known.look_up(first) is None
    assert await known.look_up(replace(first, ticket="2", client=Client("b"))) is None
    same = asyncio.create_task(known.look_up(replace(first, ticket="3")))
    await known.store([(first, CAPTION)])
    known.publish(first, CAPTION)
    assert await same == replace(CAPTION, cached=True)
    known.leave(first)
    assert await known.look_up(replace(first, ticket="4", client=Client("c"))) == replace(
        CAPTION, cached=True
    )

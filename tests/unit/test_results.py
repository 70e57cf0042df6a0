"""Stored JSON: what is written is read, and what cannot be read harms one image only."""

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from captiond.jobs import (
    Caption,
    Captioned,
    Generation,
    ImageView,
    NewImage,
    NewTask,
    Options,
    Outcome,
    Refused,
    SpooledImage,
    Status,
    TaskView,
    message,
)
from captiond.store import captions, claims, deliveries, tasks
from captiond.store.engine import Engine, writing
from captiond.store.results import image_view, options_from, options_text, result_text
from captiond.supervisor.payloads import task_payload
from captiond.tags import Category, Kind, Tag, TagOptions
from captiond.web.schemas import task_status

pytestmark = pytest.mark.anyio
TAG = Tag("cat", "cat", Category.ANIMAL, Kind.NOUN, 2, 5)
CAPTION = Captioned(
    "a cat \0 \u263a",
    ("cat",),
    "m",
    4,
    3,
    cached=True,
    tag_details=(TAG,),
    score=-0.1,
    captions=(Caption("a cat", -0.1), Caption("a dog", -1e-9)),
)
OPTIONS = Options(
    generation=Generation(prompt="a", num_beams=3),
    no_cache=True,
    language="en",
    tags=TagOptions(kinds=(Kind.NOUN,), categories=(), deny=("x*",), min_length=0),
)
DAMAGED = [
    "",
    "{",
    "[]",
    '"a cat"',
    '{"newer": 1}',
    json.dumps({"caption": "a", "tags": "cat", "model": "m", "width": 4, "height": 3}),
    json.dumps({"caption": "a", "tags": [], "model": "m", "width": {}, "height": 3}),
]


def viewed(outcome: Outcome, **more: Any) -> ImageView:
    """Return the view of an image whose stored result has some more keys."""
    stored = json.dumps({**json.loads(result_text(outcome)), **more})
    status = Status.FAILED if isinstance(outcome, Refused) else Status.COMPLETED
    return image_view("a.png", None, status, stored)


@pytest.mark.parametrize("outcome", [CAPTION, Refused("bad", "corrupt_image", 400)])
def test_what_is_written_is_read_and_unknown_keys_are_ignored(outcome: Outcome) -> None:
    assert viewed(outcome).outcome == outcome
    assert viewed(outcome, of_a_newer_version={"a": [1]}).outcome == outcome


def test_text_that_no_encoding_can_hold_is_stored_with_question_marks() -> None:
    refused = Refused("\ud800.png: not an image", "not_an_image")
    assert viewed(refused).outcome == Refused("?.png: not an image", "not_an_image")
    whole = viewed(replace(CAPTION, caption="a \ud800 cat")).outcome
    assert whole == replace(CAPTION, caption="a ? cat")


@pytest.mark.parametrize("options", [OPTIONS, Options()])
def test_options_that_are_written_are_read(options: Options) -> None:
    assert options_from(options_text(options)) == options


def test_unknown_keys_of_options_are_ignored() -> None:
    stored = json.loads(options_text(OPTIONS) or "")
    stored["generation"]["newer"] = stored["newer"] = 1
    assert options_from(json.dumps(stored)) == OPTIONS


async def ended_with(engine: Engine, stored: str, outcome: Outcome = CAPTION) -> TaskView:
    """Return a finished task of two images, one of whose results was replaced by `stored`."""
    image = NewImage("a.png", SpooledImage("s", 0, 9, "sha"))
    callback = "http://a.example/"
    await tasks.create_task(engine, NewTask("t", "s", (image, image), 1.0, callback_url=callback))
    claimed = (await claims.claim(engine, 2, owner="node/m", now=2.0)).claims
    outcomes = [
        claims.ImageOutcome(claim.image_id, claim.attempt, result)
        for claim, result in zip(claimed, [outcome, CAPTION], strict=True)
    ]
    await claims.finish(engine, outcomes[:1], now=3.0)
    async with writing(engine) as connection:
        query = text("UPDATE images SET result = :stored WHERE position = 0")
        await connection.execute(query, {"stored": stored})
    await claims.finish(engine, outcomes[1:], now=3.0)
    task = await tasks.read_task(engine, "t")
    assert task is not None
    return task


@pytest.mark.parametrize("stored", DAMAGED)
async def test_a_damaged_result_is_the_error_of_its_image_alone(store: Engine, stored: str) -> None:
    task = await ended_with(store, stored)
    damaged, good = task.images
    assert (task.status, good.outcome) == (Status.COMPLETED, CAPTION)
    assert isinstance(damaged.outcome, Refused)
    assert damaged.outcome.code == "result_unreadable"
    assert damaged.status is Status.FAILED
    assert message(task.status, task.counts).startswith("Processing complete. 1/2 images captioned")


async def test_a_task_with_a_damaged_result_is_reported_to_its_receiver(store: Engine) -> None:
    task = await ended_with(store, "{")
    (delivery,) = await deliveries.due(store, now=9.0, per_host=1, trying={})
    assert delivery.task_id == task.id
    results = json.loads(task_payload(task, task_status))["data"]["result"]
    assert [result.get("code") for result in results] == ["result_unreadable", None]


async def test_a_damaged_reason_of_a_failure_does_not_stop_the_finish_of_its_task(
    store: Engine,
) -> None:
    task = await ended_with(store, "{", Refused("died", "poison_image"))
    assert task.status is Status.COMPLETED
    assert await tasks.needed_spool_names(store) == set(), "what cannot be read is not retried"


async def test_unknown_keys_of_a_cached_caption_are_ignored(store: Engine) -> None:
    await captions.remember(store, {"key": CAPTION}, now=1.0)
    async with writing(store) as connection:
        query = text("UPDATE captions SET result = replace(result, '{', '{\"newer\": 1, ')")
        await connection.execute(query)
    assert await captions.look_up(store, ["key"]) == [CAPTION]

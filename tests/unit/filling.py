"""Tasks in a store, and the outcomes of their images, for tests of what clients see of them."""

from collections.abc import Sequence

from captiond.clients import Client
from captiond.jobs import NOBODY, Captioned, NewImage, NewTask, Outcome, Refused, SpooledImage
from captiond.store import claims, tasks
from captiond.store.engine import Engine

CAPTION = Captioned("a cät", ("cat", "cät"), "m", 4, 3, score=-0.5)
RETRYABLE = Refused("too slow", "image_too_slow")
NO_IMAGE = Refused("not an image of a known type", "not_an_image")


async def add_task(
    store: Engine,
    task_id: str,
    images: int,
    *,
    refused: Sequence[int] = (),
    client: Client = NOBODY,
    created_at: float = 1.0,
) -> str:
    """Add a task. The images at the positions `refused` were refused at upload."""
    files = tuple(
        NewImage(f"{n}.png", None, NO_IMAGE)
        if n in refused
        else NewImage(f"{n}.png", SpooledImage("file", 9 * n, 9, f"sha{n}"))
        for n in range(images)
    )
    task = NewTask(task_id, "file", files, created_at, client=client)
    return await tasks.create_task(store, task)


async def claimed(store: Engine, number: int) -> list[claims.Claim]:
    """Claim so many images, in order."""
    return (await claims.claim(store, number, owner="node/model0", now=2.0)).claims


async def finish(store: Engine, claim: Sequence[claims.Claim], outcome: Outcome = CAPTION) -> None:
    """Store one outcome for all claimed images."""
    results = [claims.ImageOutcome(each.image_id, each.attempt, outcome) for each in claim]
    await claims.finish(store, results, now=3.0)


async def run_task(store: Engine, number: int, outcome: Outcome = CAPTION) -> None:
    """Claim and finish so many images."""
    await finish(store, await claimed(store, number), outcome)

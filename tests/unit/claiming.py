"""Tasks of waiting images, which tests claim and finish."""

from captiond.jobs import Captioned, NewImage, NewTask, SpooledImage
from captiond.store import claims
from captiond.store.engine import Engine

CAPTION = Captioned("a cat", ("cat",), "m", 4, 3)


def task(task_id: str, count: int, *, key: str | None = None) -> NewTask:
    images = tuple(NewImage(f"{n}.png", SpooledImage("s", 0, 9, "sha")) for n in range(count))
    return NewTask(task_id, f"spool-{task_id}", images, 1.0, key, "digest" if key else None)


async def claim(engine: Engine, number: int, owner: str = "node/m") -> list[claims.Claim]:
    return (await claims.claim(engine, number, owner=owner, now=2.0)).claims


async def finish(engine: Engine, claimed: list[claims.Claim]) -> set[int]:
    outcomes = [claims.ImageOutcome(each.image_id, each.attempt, CAPTION) for each in claimed]
    return set(await claims.finish(engine, outcomes, now=3.0))

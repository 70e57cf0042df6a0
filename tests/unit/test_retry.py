"""Failed images of a finished task wait again, if another try may succeed."""

import pytest

from captiond.deaths import BLAME_LIMIT
from captiond.errors import NothingToRetry, TaskNotFound
from captiond.jobs import Captioned, FinishedTask, Refused, Status, TaskView
from captiond.store import claims, expiry, tasks
from captiond.store.engine import Engine
from tests.unit.filling import CAPTION, add_task

pytestmark = pytest.mark.anyio


async def read(store: Engine, task_id: str) -> TaskView:
    found = await tasks.read_task(store, task_id)
    assert found is not None
    return found


async def finish_with(
    store: Engine, *outcomes: Captioned | Refused
) -> dict[int, FinishedTask | None]:
    """Claim as many images as there are outcomes, and store these outcomes."""
    taken = (await claims.claim(store, len(outcomes), owner="m", now=2.0)).claims
    results = [
        claims.ImageOutcome(claim.image_id, claim.attempt, outcome)
        for claim, outcome in zip(taken, outcomes, strict=True)
    ]
    return await claims.finish(store, results, now=3.0)


async def test_an_image_that_may_succeed_now_is_retried(store: Engine) -> None:
    poison, damaged = Refused("died", "poison_image"), Refused("damaged", "corrupt_image")
    await add_task(store, "t", 3)
    ended = await finish_with(store, CAPTION, poison, damaged)
    assert set(ended.values()) == {FinishedTask(keeps_file=True)}
    assert await tasks.needed_spool_names(store) == {"file"}
    assert await tasks.retry(store, "t") == 1
    again = await read(store, "t")
    assert (again.status, again.finished_at) == (Status.PENDING, None)
    assert [image.outcome for image in again.images] == [CAPTION, None, damaged]
    assert set((await finish_with(store, CAPTION)).values()) == {FinishedTask(keeps_file=False)}
    whole = await read(store, "t")
    assert (whole.status, whole.counts.failed) == (Status.COMPLETED, 1)
    assert await tasks.needed_spool_names(store) == set()


async def test_what_cannot_be_retried(store: Engine) -> None:
    with pytest.raises(TaskNotFound):
        await tasks.retry(store, "t")
    await add_task(store, "t", 2)
    with pytest.raises(NothingToRetry):  # it is not finished
        await tasks.retry(store, "t")
    await finish_with(store, CAPTION, Refused("damaged", "corrupt_image"))
    with pytest.raises(NothingToRetry):  # another try would fail as well
        await tasks.retry(store, "t")
    await add_task(store, "u", 1)
    await finish_with(store, Refused("died", "poison_image"))
    assert await expiry.release_files(store, before=3.0) == 0
    assert await expiry.release_files(store, before=4.0) == 1
    with pytest.raises(NothingToRetry):  # the file is gone
        await tasks.retry(store, "u")


async def test_a_retry_starts_with_no_blame(store: Engine) -> None:
    await add_task(store, "t", 1)
    for _ in range(2):
        (claim,) = (await claims.claim(store, 1, owner="m", now=2.0)).claims
        blamed = {claim.image_id: BLAME_LIMIT}
        await claims.requeue(store, now=3.0, owner="m", blamed=blamed)
        assert (await read(store, "t")).status is Status.FAILED
        assert await tasks.retry(store, "t") == 1
    (claim,) = (await claims.claim(store, 1, owner="m", now=2.0)).claims
    assert (claim.blame, claim.attempt) == (0, 3)

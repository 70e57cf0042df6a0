"""Tasks that come at the same time: one transaction, and each its own end."""

import asyncio

import pytest
from sqlalchemy import event

from captiond.errors import KeyReused
from captiond.jobs import NewImage, NewTask, SpooledImage
from captiond.store.engine import Engine
from captiond.web.acceptance import Acceptance
from captiond.web.captioning import accept
from captiond.web.uploads import Form, to_its_end

pytestmark = pytest.mark.anyio


def task(task_id: str, *, images: int = 3, key: str | None = None, digest: str = "d") -> NewTask:
    some = tuple(
        NewImage(f"{n}.png", SpooledImage("spool", 9 * n, 9, "sha")) for n in range(images)
    )
    return NewTask(task_id, task_id, some, 1.0, key, digest)


async def test_they_share_transactions(store: Engine) -> None:
    commits: list[object] = []
    event.listen(store.sql.sync_engine, "commit", commits.append)
    acceptance = Acceptance(store)
    tasks = [acceptance.accept(task(f"t{number}")) for number in range(30)]
    assert await asyncio.gather(*tasks) == [f"t{number}" for number in range(30)]
    assert await acceptance.queued() == 90
    assert len(commits) <= 3  # what comes while the first is written waits for the second


async def test_the_same_key_in_one_transaction_is_one_task(store: Engine) -> None:
    acceptance = Acceptance(store)
    found = await asyncio.gather(
        acceptance.accept(task("a", key="k")),
        acceptance.accept(task("b", key="k")),
        acceptance.accept(task("c", key="k", digest="other")),
        acceptance.accept(task("d")),
        return_exceptions=True,
    )
    assert (found[0], found[1]) == ("a", "a")
    assert isinstance(found[2], KeyReused)
    assert found[3] == "d"


async def test_one_that_cannot_be_written_spoils_no_other(store: Engine) -> None:
    surrogate = NewImage(
        "\ud800.png", SpooledImage("spool", 0, 9, "sha")
    )  # SQLite takes no such text
    bad = NewTask("bad", "bad", (surrogate,), 1.0)
    acceptance = Acceptance(store)
    found = await asyncio.gather(
        acceptance.accept(task("a")),
        acceptance.accept(bad),
        acceptance.accept(task("b")),
        return_exceptions=True,
    )
    assert (found[0], found[2]) == ("a", "b")
    assert isinstance(found[1], UnicodeEncodeError)


async def test_the_queue_is_counted_with_what_came_since(store: Engine) -> None:
    acceptance = Acceptance(store)
    assert await acceptance.queued() == 0
    await acceptance.accept(task("a", images=4))
    assert await acceptance.queued() == 4


async def test_who_is_cancelled_goes_on_when_the_work_has_ended() -> None:
    steps: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        steps.append("written")

    async def caller() -> None:
        try:
            await to_its_end(work())
        finally:
            steps.append("cleaned up")

    calling = asyncio.create_task(caller())
    await asyncio.sleep(0.01)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert steps == ["written", "cleaned up"]


async def test_a_file_is_kept_until_it_is_known_that_no_row_owns_it(store: Engine) -> None:
    acceptance = Acceptance(store)
    first, again, other, in_doubt = Form(), Form(), Form(), Form()
    assert await accept(acceptance, first, task("a", key="k")) == "a"
    assert await accept(acceptance, again, task("b", key="k")) == "a"
    with pytest.raises(KeyReused):
        await accept(acceptance, other, task("c", key="k", digest="other"))
    cut_short = asyncio.ensure_future(accept(acceptance, in_doubt, task("d")))
    await asyncio.sleep(0)
    cut_short.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut_short
    assert [form.kept for form in (first, again, other, in_doubt)] == [True, False, False, True]

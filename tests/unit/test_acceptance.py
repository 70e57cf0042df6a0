"""Tasks that arrive at the same time share a transaction, and each has its own outcome."""

import asyncio

import pytest
from sqlalchemy import event

from captiond.errors import KeyReused, StoreRefused, StoreUncertain
from captiond.jobs import NewImage, NewTask, SpooledImage
from captiond.shielding import shielded
from captiond.store import tasks
from captiond.store.engine import Engine
from captiond.store.queueview import Backlog
from captiond.web.async_tasks.async_captioning import accept
from captiond.web.async_tasks.task_queue import TaskQueue
from captiond.web.uploading.forms import Form

pytestmark = pytest.mark.anyio


def task(task_id: str, *, images: int = 3, key: str | None = None, digest: str = "d") -> NewTask:
    some = tuple(
        NewImage(f"{n}.png", SpooledImage("spool", 9 * n, 9, "sha")) for n in range(images)
    )
    return NewTask(task_id, task_id, some, 1.0, key, digest)


async def test_tasks_share_transactions(store: Engine) -> None:
    commits: list[object] = []
    event.listen(store.sql.sync_engine, "commit", commits.append)
    queue = TaskQueue(store)
    tasks = [queue.add(task(f"t{number}")) for number in range(30)]
    assert await asyncio.gather(*tasks) == [f"t{number}" for number in range(30)]
    assert await queue.backlog() == Backlog(90, 810)
    assert len(commits) <= 3  # what arrives while the first is written waits for the second


async def test_the_same_key_in_one_transaction_is_one_task(store: Engine) -> None:
    queue = TaskQueue(store)
    added = await asyncio.gather(
        queue.add(task("a", key="k")),
        queue.add(task("b", key="k")),
        queue.add(task("c", key="k", digest="other")),
        queue.add(task("d")),
        return_exceptions=True,
    )
    assert (added[0], added[1]) == ("a", "a")
    assert isinstance(added[2], KeyReused)
    assert added[3] == "d"


async def test_a_task_that_cannot_be_written_spoils_no_other(store: Engine) -> None:
    image = SpooledImage("spool", 0, 9, "sha")
    surrogate = NewImage("\ud800.png", image)  # a database refuses such a text
    bad = NewTask("bad", "bad", (surrogate,), 1.0)
    queue = TaskQueue(store)
    added = await asyncio.gather(
        queue.add(task("a")),
        queue.add(bad),
        queue.add(task("b")),
        return_exceptions=True,
    )
    assert (added[0], added[2]) == ("a", "b")
    assert isinstance(added[1], StoreRefused)


async def test_a_task_that_the_database_refuses_spoils_no_other(store: Engine) -> None:
    queue = TaskQueue(store)
    assert await queue.add(task("there")) == "there"
    added = await asyncio.gather(
        queue.add(task("a")),
        queue.add(task("there")),  # another request cannot have this id
        queue.add(task("b")),
        return_exceptions=True,
    )
    assert (added[0], added[2]) == ("a", "b")
    assert isinstance(added[1], StoreRefused)


async def test_the_backlog_includes_what_was_added_since_the_count(store: Engine) -> None:
    queue = TaskQueue(store)
    assert await queue.backlog() == Backlog()
    for task_id in ("a", "sent again"):
        await queue.add(task(task_id, images=4, key="k"))
    assert await queue.backlog() == Backlog(4, 36)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_caller_waits_until_its_work_has_ended(times: int) -> None:
    """Its deadline may cancel it, and then a stop."""
    steps: list[str] = []
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        steps.append("written")

    async def caller() -> None:
        try:
            await shielded(work())
        finally:
            steps.append("cleaned up")

    calling = asyncio.create_task(caller())
    await begun.wait()
    for _ in range(times):
        calling.cancel()
        for _ in range(5):  # a caller that does not wait cleans up now
            await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert steps == ["written", "cleaned up"]


async def test_a_file_is_kept_until_it_is_certain_that_no_row_refers_to_it(store: Engine) -> None:
    queue = TaskQueue(store)
    first, again, other, in_doubt = Form(), Form(), Form(), Form()
    assert await accept(queue, first, task("a", key="k")) == "a"
    assert await accept(queue, again, task("b", key="k")) == "a"
    with pytest.raises(KeyReused):
        await accept(queue, other, task("c", key="k", digest="other"))
    cut_short = asyncio.ensure_future(accept(queue, in_doubt, task("d")))
    await asyncio.sleep(0)
    cut_short.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut_short
    assert [form.kept for form in (first, again, other, in_doubt)] == [True, False, False, True]


async def test_a_file_is_kept_if_its_task_may_have_been_accepted(
    store: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection to the database was lost during the commit, and the server is away now."""

    async def uncertain(*_: object) -> list[str]:
        raise StoreUncertain("the connection was lost during a commit")

    monkeypatch.setattr(tasks, "create_tasks", uncertain)
    form = Form()
    with pytest.raises(StoreUncertain):
        await accept(TaskQueue(store), form, task("a"))
    assert form.kept

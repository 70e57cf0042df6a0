"""Interactive images that another node of the database captions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from captiond.clients import Client
from captiond.jobs import Lane, Refused, SpooledImage
from captiond.messages import Answer, Ask, Drop, Finished, Health, Message, State, Work
from captiond.spool import open_spool
from captiond.store import asks, leases
from captiond.store.asks import AskOutcome
from captiond.store.engine import Engine, writing
from captiond.supervisor import remote_clients
from captiond.supervisor.peers import Peers
from captiond.supervisor.remote_clients import RemoteClients
from captiond.supervisor.remote_model import RemoteModel
from captiond.supervisor.roster import ChildKind
from tests.unit.supervised import NODE, Parts, background, supervised, until
from tests.unit.test_nodes import CAPTION, HERE, OPTIONS, READY, THERE, ask, expire

pytestmark = [pytest.mark.anyio, pytest.mark.only_on("postgresql")]


async def test_an_image_is_captioned_by_one_other_node(store: Engine) -> None:
    await asks.put(store, HERE, [ask("b", 2.0), ask("a", 1.0)])
    (first,) = await asks.claim(store, 1, owner=f"{THERE}/remote")
    assert (first.content, first.client, first.options) == (b"a", Client("c", 2.0), OPTIONS)
    assert first.options.origin == OPTIONS.origin
    (second,) = await asks.claim(store, 9, owner="third-c-3/remote")
    assert await asks.claim(store, 9, owner="third-c-3/remote") == []
    refused = Refused("no", "corrupt_image", 400)
    done = [AskOutcome(first.id, 1, CAPTION)]
    assert await asks.answer(store, done, owner="third-c-3/remote") == set(), "not its own"
    assert await asks.answer(store, done, owner=f"{THERE}/remote") == {HERE}
    await asks.answer(store, [AskOutcome(second.id, 1, refused)], owner="third-c-3/remote")
    answers = await asks.answers(store, HERE)
    assert answers.outcomes == {first.id: CAPTION, second.id: refused}
    await asks.remove(store, [first.id, second.id])
    assert await asks.answers(store, HERE) == asks.Answers({}, frozenset())
    assert await asks.answer(store, done, owner=f"{THERE}/remote") == set(), "nobody waits"


async def test_the_images_of_a_dead_node_go_to_the_next_one_and_then_fail(store: Engine) -> None:
    await asks.put(store, HERE, [ask("a")])
    for attempt, node in enumerate(("n-a-1", "n-b-2"), 1):
        await leases.renew(store, node)
        (claimed,) = await asks.claim(store, 9, owner=f"{node}/remote")
        assert claimed.attempt == attempt
        await expire(store, node)
        await leases.requeue_expired(store, HERE)
    assert await asks.claim(store, 9, owner=f"{THERE}/remote") == []
    assert (await asks.answers(store, HERE)).outcomes == {f"{HERE}/a": None}
    late = [AskOutcome(f"{HERE}/a", 1, CAPTION)]
    assert await asks.answer(store, late, owner="n-a-1/remote") == set()


async def test_an_own_late_result_is_not_that_of_the_present_attempt(store: Engine) -> None:
    """A node was suspended, lost its claim, and has claimed the image again."""
    await asks.put(store, HERE, [ask("a")])
    for attempt in (1, 2):
        await leases.renew(store, THERE)
        (claimed,) = await asks.claim(store, 9, owner=f"{THERE}/remote")
        assert claimed.attempt == attempt
        if attempt == 1:
            await expire(store, THERE)
            await leases.requeue_expired(store, HERE)
    late = [AskOutcome(f"{HERE}/a", 1, CAPTION)]
    assert await asks.answer(store, late, owner=f"{THERE}/remote") == set()


async def test_what_a_dead_node_has_asked_for_is_deleted(store: Engine) -> None:
    await leases.renew(store, HERE)
    await asks.put(store, HERE, [ask("a")])
    await expire(store, HERE)
    await leases.requeue_expired(store, THERE)
    assert await asks.claim(store, 9, owner=f"{THERE}/remote") == []


async def test_an_image_that_is_given_back_has_lost_no_attempt(store: Engine) -> None:
    await asks.put(store, HERE, [ask("a")])
    for _ in range(3):
        (claimed,) = await asks.claim(store, 9, owner=f"{THERE}/remote")
        assert claimed.attempt == 1
        await asks.release(store, [(claimed.id, 1)], owner=f"{THERE}/remote")
        await asks.claim(store, 9, owner=f"{THERE}/remote")
        await asks.disown(store, owner=f"{THERE}/remote", known=[])


@asynccontextmanager
async def remote_model(
    folder: Path, store: Engine
) -> AsyncIterator[tuple[Parts, RemoteModel, list[Message]]]:
    """A node without a model, and the messages that its one web process gets."""
    async with supervised(folder, store) as parts:
        received: list[Message] = []
        parts.roster.attach(ChildKind.WEB, "web0", received.append)
        spool = open_spool(parts.settings)
        remote = RemoteModel(store, NODE, spool, parts.roster, parts.router, parts.peers)
        remote.reports_read({THERE: READY})
        async with (
            background(remote.run()),
            background(parts.assignment.run_interactive()),
            background(parts.peers.run_listening(lambda: None)),
        ):
            yield parts, remote, received


def spooled(parts: Parts) -> SpooledImage:
    (parts.settings.spool / "f").write_bytes(b"pixels")
    return SpooledImage("f", 0, 6, "sha")


async def test_images_cross_to_another_node_and_their_answers_back(
    store: Engine, there: Engine, tmp_path: Path
) -> None:
    """Both ends as they are, with the model process replaced by the test."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    async with (
        remote_model(tmp_path / "one", store) as (here, _, received),
        supervised(tmp_path / "other", there) as far,
    ):
        peers = Peers(there, THERE)
        works: list[Work] = []

        def model(message: Message) -> None:
            if isinstance(message, Work):
                works.append(message)

        far.roster.attach(ChildKind.MODEL, "model0", model)
        far.dispatcher.model_ready("model0", 2)
        shared = (there, THERE, open_spool(far.settings), far.roster, far.router, peers)
        clients = RemoteClients(*shared, far.dispatcher, far.cleaner)
        async with (
            background(clients.run()),
            background(far.assignment.run_interactive()),
            background(peers.run_listening(lambda: None)),
            background(peers.run_sending()),
            background(here.peers.run_sending()),
        ):
            here.router.from_web("web0", Ask(7, (spooled(here),) * 3, OPTIONS, client=Client("c")))
            for count in (1, 2, 3):
                await until(lambda count=count: len(works) >= count)  # type: ignore[misc]
                work = works[count - 1]
                assert (work.lane, work.options, work.client) == (
                    Lane.INTERACTIVE, OPTIONS, Client("c"),
                )  # fmt: skip
                assert open_spool(far.settings).read(work.image) == b"pixels"
                far.router.from_model("model0", "model0", Finished(work.ticket, CAPTION))
            await until(lambda: len(received) == 3)
            await far.cleaner.finish()
        assert {message.ticket for message in received if isinstance(message, Answer)} == {7, 8, 9}
        assert all(isinstance(each, Answer) and each.outcome == CAPTION for each in received)
        assert list(far.settings.spool.iterdir()) == []

        async def deleted() -> bool:
            return await asks.answers(store, NODE) == asks.Answers({}, frozenset())

        await until(deleted)


async def test_an_image_is_found_without_a_notice(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_clients, "POLL_SECONDS", 0.01)
    async with supervised(tmp_path, store) as far:
        works: list[Message] = []
        far.roster.attach(ChildKind.MODEL, "model0", works.append)
        far.dispatcher.model_ready("model0", 2)
        shared = (store, NODE, open_spool(far.settings), far.roster, far.router, far.peers)
        clients = RemoteClients(*shared, far.dispatcher, far.cleaner)
        async with background(clients.run()), background(far.assignment.run_interactive()):
            await asks.put(store, HERE, [ask("a")])
            await until(lambda: bool(works))


async def test_images_are_sent_again_after_a_crash_of_the_database(
    store: Engine, tmp_path: Path
) -> None:
    """A table that is not logged is empty then."""
    async with remote_model(tmp_path, store) as (here, _, received):

        async def waiting() -> bool:
            return bool((await asks.answers(store, NODE)).open)

        here.router.from_web("web0", Ask(1, (spooled(here),)))
        await until(waiting)
        async with writing(store) as connection:
            await connection.execute(text("DELETE FROM asks"))
        await until(waiting)
        (claimed,) = await asks.claim(store, 9, owner=f"{THERE}/remote")
        await asks.answer(store, [AskOutcome(claimed.id, 1, CAPTION)], owner=f"{THERE}/remote")
        await until(lambda: received == [Answer(1, CAPTION)])


async def test_a_client_that_is_gone_takes_its_image_back(store: Engine, tmp_path: Path) -> None:
    async with remote_model(tmp_path, store) as (here, _, received):

        async def number(of: int) -> bool:
            return len((await asks.answers(store, NODE)).open) == of

        here.router.from_web("web0", Ask(1, (spooled(here),)))
        await until(lambda: number(1))
        here.router.from_web("web0", Drop((1,)))
        await until(lambda: number(0))
        assert received == []
        assert not here.dispatcher.busy


async def test_without_another_node_nobody_waits_in_vain(store: Engine, tmp_path: Path) -> None:
    async with remote_model(tmp_path, store) as (here, remote, _):
        assert here.status.state.health is Health.HEALTHY
        remote.reports_read({THERE: None})
        state: State = here.status.state
        assert (state.health, state.code) == (Health.UNHEALTHY, "model_not_ready")

"""Several nodes on one database: notices, reports, lost leases, interactive images that cross."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from captiond.clients import Client, RequestOrigin
from captiond.config import DataSettings, Settings
from captiond.database_settings import DatabaseSettings
from captiond.databaseurl import DatabaseAddress
from captiond.errors import SettingsError, StartupError
from captiond.jobs import (
    Captioned,
    Generation,
    Lane,
    NewImage,
    NewTask,
    Options,
    Refused,
    SpooledImage,
)
from captiond.messages import (
    Answer,
    Ask,
    Drop,
    Finished,
    Health,
    Message,
    ModelInfo,
    Ready,
    State,
    Withdraw,
    Work,
)
from captiond.node_settings import NodeSettings
from captiond.spool import open_spool
from captiond.store import asks, claims, deliveries, leases, tasks
from captiond.store.asks import AskOutcome, NewAsk
from captiond.store.engine import Engine, make_engine, writing
from captiond.supervisor import remote_clients
from captiond.supervisor.assignment import bulk_work
from captiond.supervisor.neighbours import check_neighbours, check_role
from captiond.supervisor.nodereport import NodeReport, report_from, report_text
from captiond.supervisor.peers import Peers, Topic, packed
from captiond.supervisor.remote_clients import RemoteClients
from captiond.supervisor.remote_model import RemoteModel, combined
from captiond.supervisor.roster import ChildKind
from tests.patience import PATIENCE
from tests.unit.supervised import NODE, Parts, background, membership_of, supervised, until

pytestmark = [pytest.mark.anyio, pytest.mark.only_on("postgresql")]
HERE, THERE = "here-a-1", "there-b-2"
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3, score=-0.5)
MODEL = ModelInfo("m", "m", "f", "cpu", "float32", 8)
READY = NodeReport(Health.HEALTHY, MODEL, rate=2.0, window=24, reserve=8)
OPTIONS = Options(Generation("a", num_beams=3), origin=RequestOrigin("r1"))


@pytest.fixture
async def there(store_address: DatabaseAddress) -> AsyncIterator[Engine]:
    """The database as another node sees it."""
    engine = make_engine(store_address)
    yield engine
    await engine.dispose()


def ask(name: str, at: float = 1.0) -> NewAsk:
    return NewAsk(f"{HERE}/{name}", at, Client("c", 2.0), OPTIONS, "sha", name.encode())


async def expire(engine: Engine, node: str) -> None:
    async with writing(engine) as connection:
        await connection.execute(
            text("UPDATE nodes SET expires_at = 1 WHERE id = :node"), {"node": node}
        )


# ---------------------------------------------------------------- notices


async def test_nodes_hear_each_other_and_not_themselves(store: Engine, there: Engine) -> None:
    one, other = Peers(store, HERE), Peers(there, THERE)
    heard: dict[str, list[str]] = {HERE: [], THERE: []}
    one.on(Topic.CHANGED, heard[HERE].extend)
    other.on(Topic.CHANGED, heard[THERE].extend)
    listening = asyncio.Event()
    ids = [f"task_{number:040}" for number in range(500)]
    async with (
        asyncio.timeout(PATIENCE),
        background(one.run_listening(lambda: None)),
        background(other.run_listening(listening.set)),
        background(one.run_sending()),
    ):
        await listening.wait()
        one.say(Topic.CHANGED, *ids)
        await until(lambda: len(heard[THERE]) == len(ids))
    assert heard == {HERE: [], THERE: ids}


async def test_a_node_that_is_alone_says_only_what_it_is(store: Engine, there: Engine) -> None:
    one, other = Peers(store, HERE), Peers(there, THERE)
    one.alone = True
    heard: list[Topic] = []
    for topic in Topic:
        other.on(topic, lambda _, topic=topic: heard.append(topic))  # type: ignore[misc]
    listening = asyncio.Event()
    async with (
        asyncio.timeout(PATIENCE),
        background(other.run_listening(listening.set)),
        background(one.run_sending()),
    ):
        await listening.wait()
        one.say(Topic.CHANGED, "t")
        one.say(Topic.REPORTED)
        await until(lambda: bool(heard))
    assert heard == [Topic.REPORTED]


def test_a_notice_fits_what_the_database_carries() -> None:
    lists = list(packed([str(number) * 9 for number in range(300)], 1000))
    assert [item for some in lists for item in some] == [str(n) * 9 for n in range(300)]
    assert max(len(json.dumps(some)) for some in lists) <= 1300
    assert list(packed((), 1000)) == [[]]


# ---------------------------------------------------------------- reports and leases


async def read_reports(engine: Engine, node: str) -> dict[str, NodeReport | None]:
    return {name: report_from(text) for name, text in (await leases.living(engine, node)).items()}


async def test_nodes_read_each_others_reports_while_their_leases_last(store: Engine) -> None:
    assert not await leases.renew(store, HERE, report=report_text(READY)), "it had no lease yet"
    assert await leases.renew(store, HERE, report=report_text(READY))
    await leases.renew(store, THERE, report="[]")
    assert await read_reports(store, THERE) == {HERE: READY}
    assert await read_reports(store, HERE) == {THERE: None}
    await expire(store, HERE)
    assert await leases.living(store, THERE) == {}


async def test_images_that_others_may_have_are_dropped_after_a_lost_lease(
    store: Engine, tmp_path: Path
) -> None:
    """The node was cut off or suspended for longer than its lease."""
    async with supervised(tmp_path, store) as parts:
        membership = membership_of(parts, store)
        sent: list[Message] = []
        parts.roster.attach(ChildKind.MODEL, "model0-1", sent.append)
        parts.dispatcher.model_ready("model0-1", 24)
        images = tuple(NewImage(f"{n}", SpooledImage("s", 0, 9, "x")) for n in range(3))
        await tasks.create_task(store, NewTask("t", "s", images, 1.0))
        owner = leases.owner_of(NODE, "model0-1")
        await leases.renew(store, NODE)
        for claim in (await claims.claim(store, 2, owner=owner, now=2.0)).claims:
            parts.dispatcher.assign_bulk("model0-1", bulk_work(claim, 0.0))
        await membership._renew()
        assert sent == []
        await expire(store, NODE)
        assert await leases.requeue_expired(store, THERE) == 2
        await membership._renew()
        tickets = {message.ticket for message in sent if isinstance(message, Withdraw)}
        assert tickets == {"image:1:1", "image:2:1"}
        late = [claims.ImageOutcome(1, 1, CAPTION)]
        assert await claims.finish(store, late, now=3.0) == {}


def test_the_models_of_all_nodes_count_as_one() -> None:
    loading = NodeReport(Health.STARTING, reasons=("the model is being loaded",), code="c")
    assert combined([loading, READY, READY]) == Ready(MODEL, 48, 16)
    assert combined([]).reason == "no node with a model is connected"  # type: ignore[union-attr]
    assert combined([loading]).reason == "the model is being loaded"  # type: ignore[union-attr]
    web = replace(READY, window=0)
    assert not isinstance(combined([web]), Ready), "it has only the models of others"


# ---------------------------------------------------------------- interactive images


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


# ---------------------------------------------------------------- what nodes share


async def test_a_webhook_is_called_by_one_node(store: Engine, there: Engine) -> None:
    async def due(engine: Engine, now: float) -> Sequence[str]:
        found = await deliveries.due(engine, now=now, per_host=9, trying={}, reserve_seconds=30)
        return [each.task_id for each in found]

    refused = (NewImage("x", None, Refused("no", "not_an_image", 400)),)
    for name in "ab":
        task = NewTask(name, None, refused, 1.0, callback_url="http://example.com/")
        await tasks.create_task(store, task)
    mine, theirs = await asyncio.gather(due(store, 2.0), due(there, 2.0))
    assert sorted([*mine, *theirs]) == ["a", "b"]
    assert await due(there, 31.0) == []
    assert sorted(await due(there, 33.0)) == ["a", "b"], "the node that had it may have died"


def settings_of(folder: Path, role: str = "all", /, **sections: object) -> Settings:
    node = NodeSettings.model_validate({"role": role})
    return Settings.model_validate({"data": DataSettings(dir=folder), "node": node, **sections})


async def test_a_node_that_could_not_read_the_uploads_of_others_does_not_start(
    store: Engine, tmp_path: Path
) -> None:
    alone = settings_of(tmp_path)
    await check_neighbours(alone, store, HERE)
    await leases.renew(store, THERE)
    with pytest.raises(StartupError, match=r"\[uploads\] url"):
        await check_neighbours(alone, store, HERE)
    shared = {"url": "s3://bucket"}
    await check_neighbours(settings_of(tmp_path, uploads=shared), store, HERE)
    calls = settings_of(tmp_path, uploads=shared, webhooks={"allow": ["example.com"]})
    with pytest.raises(StartupError, match=r"\[webhooks\] secret"):
        await check_neighbours(calls, store, HERE)
    await check_neighbours(alone, store, THERE.replace("-2", "-3"))  # the same data folder
    other = report_text(replace(READY, uploads="s3://other"))
    await leases.renew(store, THERE, report=other)
    with pytest.raises(StartupError, match=f"{THERE} keeps uploads in s3://other"):
        await check_neighbours(settings_of(tmp_path, uploads=shared), store, HERE)
    await leases.renew(store, THERE, report=report_text(READY))
    with pytest.raises(StartupError, match=f"{THERE} keeps uploads in its data folder"):
        await check_neighbours(settings_of(tmp_path, uploads=shared), store, HERE)
    await expire(store, THERE)
    await check_neighbours(alone, store, HERE)


@pytest.mark.parametrize("role", ["web", "worker"])
def test_a_part_of_a_service_needs_what_the_others_have(tmp_path: Path, role: str) -> None:
    check_role(settings_of(tmp_path))
    with pytest.raises(SettingsError, match=r"\[database\] url"):
        check_role(settings_of(tmp_path, role))
    database = {"database": DatabaseSettings.model_validate({"url": "postgresql+psycopg://h/d"})}
    with pytest.raises(SettingsError, match=r"\[uploads\] url"):
        check_role(settings_of(tmp_path, role, **database))
    check_role(settings_of(tmp_path, role, **database, uploads={"url": "s3://bucket"}))

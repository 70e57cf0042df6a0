"""Several nodes on one database: notices, reports, lost leases, interactive images that cross."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from captiond.clients import Client, RequestOrigin
from captiond.errors import SettingsError, StartupError
from captiond.jobs import Captioned, Generation, NewImage, NewTask, Options, Refused, SpooledImage
from captiond.messages import Health, Message, ModelInfo, Ready, Withdraw
from captiond.settings.config import DataSettings, Settings
from captiond.settings.database_settings import DatabaseSettings
from captiond.settings.node_settings import NodeSettings
from captiond.store import claims, deliveries, leases, tasks
from captiond.store.asks import NewAsk
from captiond.store.engine import Engine, writing
from captiond.supervisor.assignment import bulk_work
from captiond.supervisor.neighbours import check_neighbours, check_role
from captiond.supervisor.nodereport import NodeReport, report_from, report_text
from captiond.supervisor.peers import Peers, Topic, packed
from captiond.supervisor.remote_model import combined
from captiond.supervisor.roster import ChildKind
from tests.patience import PATIENCE
from tests.unit.supervised import NODE, background, membership_of, supervised, until

pytestmark = [pytest.mark.anyio, pytest.mark.only_on("postgresql")]
HERE, THERE = "here-a-1", "there-b-2"
CAPTION = Captioned("a cat", ("cat",), "m", 4, 3, score=-0.5)
MODEL = ModelInfo("m", "m", "f", "cpu", "float32", 8)
READY = NodeReport(Health.HEALTHY, MODEL, rate=2.0, window=24, reserve=8)
OPTIONS = Options(Generation("a", num_beams=3), origin=RequestOrigin("r1"))


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


# ---------------------------------------------------------------- what nodes share


async def test_a_webhook_is_called_by_one_node(store: Engine, there: Engine) -> None:
    async def due(engine: Engine, now: float) -> Sequence[str]:
        found = await deliveries.due(engine, now=now, per_host=9, trying={}, reserve_seconds=30)
        return [str(each.task_id) for each in found]

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

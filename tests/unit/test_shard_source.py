"""A model process, with a toy captioner, that works at shards of imports."""

import asyncio
import json
import multiprocessing
import os
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from captiond.captioners.families import FAMILIES
from captiond.deaths import BLAME_LIMIT
from captiond.errors import ReferenceUnavailable
from captiond.jobs import Status
from captiond.messages import Begun, Drain, Go, Ready
from captiond.processes.channel import Channel
from captiond.processes.start import ModelStart
from captiond.references.addresses import ReferenceReader
from captiond.references.shard_files import ShardFiles
from captiond.settings.config import DataSettings, ImageSettings, ModelSettings, Settings
from captiond.settings.node_settings import NodeSettings
from captiond.shardimages import ShardImage
from captiond.store import queued_shards, shards
from captiond.store.engine import Engine, make_engine
from captiond.store.shards import ImportState, NewImport
from captiond.worker import process, shard_images, shard_source
from captiond.worker.process import run
from captiond.worker.shard_source import FORGOTTEN, LONGEST_REST, Rests
from tests.conftest import png
from tests.patience import PATIENCE
from tests.toy import toy_family, write_toy
from tests.unit.supervised import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("loaded_pipelines")]
OWNER = "here-0a-1/model0-1f"


class Imports:
    """A database with imports of the images in a folder."""

    def __init__(self, settings: Settings, store: Engine, folder: Path) -> None:
        self.settings = settings
        self.store = store
        self.folder = folder
        self.photos = folder / "photos"
        self.photos.mkdir()

    async def queue(self, name: str, images: list[str], *, marked: bool = True) -> None:
        output = str(self.folder / name)
        new = NewImport(name, (str(self.photos),), "uri", output, "jsonl", 2, 1.0, queued=True)
        await shards.join_import(self.store, new)
        if marked:
            ShardFiles(output, "jsonl").mark_place(name)
        assert await shards.begin_listing(self.store, name, "lister")
        addresses = [str(self.photos / each) for each in images]
        parts = [addresses[n : n + 2] for n in range(0, len(images), 2)]
        assert await shards.add_shards(self.store, name, "lister", parts)
        await shards.end_listing(self.store, name, "lister", now=2.0)

    async def state(self, name: str) -> ImportState:
        return await shards.read_import(self.store, name)

    async def wait_for_end(self, name: str) -> ImportState:
        async def has_ended() -> bool:
            return (await self.state(name)).status.terminal

        await until(has_ended)
        return await self.state(name)

    def rows(self, name: str) -> list[dict[str, Any]]:
        parts = sorted((self.folder / name).glob("part-*.jsonl"))
        return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


@pytest.fixture
async def imports(
    tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Imports]:
    monkeypatch.setitem(FAMILIES, "toy", toy_family())
    monkeypatch.setattr(shard_source, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(shard_source, "EXTEND_SECONDS", 0.02)
    monkeypatch.setattr(shard_source, "FIRST_REST", 0.02)
    settings = Settings(
        data=DataSettings(dir=tmp_path / "data"),
        model=ModelSettings(name=str(write_toy(tmp_path / "toy")), batch_size=2),
        images=ImageSettings(decoders=1),
    )
    settings.spool.mkdir(parents=True)
    shutil.copy(migrated_file, settings.data.dir / "captiond.db")
    store = make_engine(settings.database_address)
    yield Imports(settings, store, tmp_path)
    await store.dispose()


@asynccontextmanager
async def working(imports: Imports) -> AsyncIterator[list[str]]:
    """Run a model process in this event loop. Yield the tickets that it reports as begun."""
    ours, theirs = multiprocessing.Pipe()
    channel, begun = await Channel.open(ours), list[str]()
    start = ModelStart("model0-1f", os.getpid(), imports.settings, theirs, "cpu", OWNER)

    async def receive() -> None:
        while True:
            message = await channel.receive()
            if isinstance(message, Begun):
                begun.extend(message.tickets)
            assert not isinstance(message, Ready) or message.window == 6

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        running = group.create_task(run(start))
        receiving = group.create_task(receive())
        channel.send(Go())
        yield begun
        channel.send(Drain())
        await running
        receiving.cancel()
    channel.close()


async def test_shards_are_captioned_and_written(imports: Imports) -> None:
    for number in range(4):
        (imports.photos / f"{number}.png").write_bytes(b"x" if number == 3 else png(number))
    names = ["0.png", "1.png", "missing.png", "2.png", "3.png"]
    await imports.queue("one", names)
    async with working(imports) as begun:
        state = await imports.wait_for_end("one")
    rows = imports.rows("one")
    assert [Path(row["uri"]).name for row in rows] == names
    codes = [None, None, "reference_unreadable", None, "not_an_image"]
    assert [row["code"] for row in rows] == codes
    assert all(row["caption"].endswith("image") for row in rows if row["code"] is None)
    assert (state.status, state.captioned, state.failed) == (Status.COMPLETED, 3, 2)
    assert {ShardImage.of(ticket) for ticket in begun} == {
        ShardImage("one", 0, 1, 0),
        ShardImage("one", 0, 1, 1),
        ShardImage("one", 1, 1, 1),
    }


async def test_a_node_can_leave_imports_to_others(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(process, "ShardSource", refuse)
    await imports.queue("one", ["0.png"])
    node = NodeSettings(imports=False)
    imports.settings = imports.settings.model_copy(update={"node": node})
    async with working(imports):
        pass
    assert (await imports.state("one")).open_shards == 1


async def test_what_this_machine_cannot_read_is_left_to_others_for_a_while(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many refusals the images are at fault."""
    monkeypatch.setattr(shard_source, "MOST_REFUSALS", 2)
    (imports.photos / "0.png").write_bytes(png(0))
    await imports.queue("lost", ["away/0.png", "away/1.png"])
    await imports.queue("there", ["0.png"])
    async with working(imports):
        assert (await imports.wait_for_end("there")).problem is None
        state = await imports.wait_for_end("lost")
    address = imports.photos / "away" / "0.png"
    assert state.problem == f"here-0a-1: {address}: No such file or directory"
    assert (state.status, state.failed) == (Status.FAILED, 2)
    assert [row["code"] for row in imports.rows("lost")] == ["reference_unreadable"] * 2


async def test_names_that_are_no_text_do_not_end_the_process(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_source, "MOST_REFUSALS", 1)
    await imports.queue("odd", ["\udce9.png", "\0.png", "\ud800.png"])
    async with working(imports):
        state = await imports.wait_for_end("odd")
    assert (state.status, state.failed) == (Status.FAILED, 3)
    assert [row["code"] for row in imports.rows("odd")] == ["reference_unreadable"] * 3


async def test_results_are_not_written_to_another_folder_of_the_same_name(
    imports: Imports,
) -> None:
    (imports.photos / "0.png").write_bytes(png(0))
    await imports.queue("one", ["0.png"], marked=False)

    async def is_refused() -> bool:
        return (await imports.state("one")).problem is not None

    async with working(imports) as begun:
        await until(is_refused)
        ShardFiles(str(imports.folder / "one"), "jsonl").mark_place("one")
        state = await imports.wait_for_end("one")
    assert "not the folder of one, which all machines have to share" in str(state.problem)
    assert [row["code"] for row in imports.rows("one")] == [None]
    assert len(begun) == 1


async def test_a_cancelled_import_is_dropped(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    read_file = ReferenceReader.read_file

    def slowly(reader: ReferenceReader, address: str) -> bytes:
        reading.set()
        assert go_on.wait(PATIENCE)
        return read_file(reader, address)

    monkeypatch.setattr(ReferenceReader, "read_file", slowly)
    (imports.photos / "0.png").write_bytes(png(0))
    await imports.queue("cancelled", ["0.png"])
    async with working(imports) as begun:
        await asyncio.to_thread(reading.wait)
        await shards.cancel_import(imports.store, "cancelled", now=3.0)
        await imports.queue("next", ["0.png"])
        go_on.set()
        await imports.wait_for_end("next")
    assert imports.rows("cancelled") == []
    assert len(imports.rows("next")) == 1
    assert {ticket.split(":")[1] for ticket in begun} >= {"next"}


async def test_an_image_that_kills_processes_is_an_error_of_its_own(imports: Imports) -> None:
    for number in range(2):
        (imports.photos / f"{number}.png").write_bytes(png(number))
    await imports.queue("one", ["0.png", "1.png"])
    for points in (1, BLAME_LIMIT - 1):
        shard = await queued_shards.claim_next(imports.store, OWNER)
        assert shard is not None
        blamed = {ShardImage("one", 0, shard.claim.attempt, 0): points}
        await queued_shards.release_shards_of(imports.store, OWNER, blamed)
    async with working(imports):
        await imports.wait_for_end("one")
    assert [row["code"] for row in imports.rows("one")] == ["poison_image", None]


async def test_what_may_pass_is_read_again_a_few_times(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_images, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(shard_images, "LONGEST_RETRY", 0.01)
    read_file, reads = ReferenceReader.read_file, Counter[str]()

    def sometimes(reader: ReferenceReader, address: str) -> bytes:
        name = Path(address).name
        reads[name] += 1
        if name == "1.png" or (name == "0.png" and reads[name] < 4):
            raise ReferenceUnavailable("Stale file handle")
        return read_file(reader, address)

    monkeypatch.setattr(ReferenceReader, "read_file", sometimes)
    names = ["0.png", "2.png", "1.png", "2.png"]
    for number in range(3):
        (imports.photos / f"{number}.png").write_bytes(png(number))
    await imports.queue("one", names)
    async with working(imports):
        await imports.wait_for_end("one")
    assert [row["error"] for row in imports.rows("one")] == [None, None, "Stale file handle", None]
    assert reads["1.png"] == 1 + shard_images.READ_ATTEMPTS  # one to see what can be read at all


def test_an_import_that_is_refused_rests_longer_each_time_and_is_forgotten_later() -> None:
    rests, now = Rests(), 1000.0
    for _ in range(3):
        rests.begin("one", now)
    rests.begin("other", now)
    assert rests.resting(now) == ["one", "other"]
    assert rests.resting(now + LONGEST_REST) == []
    assert len(rests) == 2
    rests.end("other")
    assert len(rests) == 1
    assert rests.resting(now + LONGEST_REST + FORGOTTEN) == []
    assert len(rests) == 0

"""Uploads of tasks into object storage: what the web process and the supervisor do."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from captiond.host.systemd import Notifier
from captiond.jobs import Refused
from captiond.messages import Answer, Ask
from captiond.metrics import OBJECT_FAILURES, SPOOL_BYTES
from captiond.recording import Registry
from captiond.settings.config import DataSettings, LimitSettings, Settings
from captiond.spool import DiskSpace, Spool, open_spool
from captiond.store.engine import Engine
from captiond.store.tasks import needed_spool_names
from captiond.supervisor import spoolusage
from captiond.supervisor.cleaner import SpoolCleaner
from captiond.supervisor.roster import Roster
from captiond.supervisor.spoolusage import SpoolUsage
from captiond.supervisor.statusboard import StatusBoard
from tests.patience import PATIENCE
from tests.s3server import S3Server
from tests.spools import home_in, stored
from tests.unit.webprocess import PNG, WebProcess, web_process
from tests.wire import Wire, wire

pytestmark = pytest.mark.anyio
SOME = {"images": ("a.png", PNG)}


@pytest.fixture
def server(s3: S3Server) -> Iterator[S3Server]:
    yield s3
    s3.clear()


@pytest.fixture
def line(server: S3Server) -> Iterator[Wire]:
    with wire(server.endpoint) as made:
        yield made


@pytest.fixture
async def web(
    store: Engine, tmp_path: Path, server: S3Server, line: Wire, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WebProcess]:
    moment = timedelta(milliseconds=1)
    retries = {"max_retries": 1, "backoff": {"init_backoff": moment, "max_backoff": moment}}
    monkeypatch.setattr("captiond.spool.bucket.RETRIES", retries)
    uploads = server.settings(endpoint=line.endpoint)
    async with web_process(store, tmp_path, uploads=uploads) as process:
        yield process


async def test_a_task_is_an_object_before_it_is_accepted(
    web: WebProcess, store: Engine, server: S3Server
) -> None:
    response = await web.client.post("/async-batch-caption", files=SOME)
    assert response.status_code == 202
    assert server.names() == set(await needed_spool_names(store))
    assert list(web.spool.iterdir()) == []


async def test_a_call_that_waits_needs_no_object_storage(web: WebProcess, line: Wire) -> None:
    line.cut()
    sending = asyncio.create_task(web.client.post("/caption", files={"image": ("a.png", PNG)}))
    ask: Ask = await web.message(Ask)
    assert {image.file for image in ask.images} == {path.name for path in web.spool.iterdir()}
    web.channel.send(Answer(ask.ticket, Refused("no", "corrupt_image")))
    await sending
    assert list(web.spool.iterdir()) == []
    assert not line.requests


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        ("503 SlowDown", 503, "storage_unavailable"),
        ("403 AccessDenied", 503, "storage_unavailable"),
        ("404 NoSuchBucket", 503, "storage_unavailable"),
        ("507 InsufficientStorage", 507, "no_space"),
        ("403 QuotaExceeded", 507, "no_space"),
    ],
)
@pytest.mark.parametrize("size", [0, 9_000_000], ids=["small", "large"])
async def test_a_storage_that_refuses_is_told_to_the_client(
    web: WebProcess, store: Engine, server: S3Server, line: Wire, answer: str, status: int,
    code: str, size: int,
) -> None:  # fmt: skip
    line.rule = lambda method, path: answer
    files = {"images": ("a.png", PNG + bytes(size))}
    response = await web.client.post("/async-batch-caption", files=files)
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code)
    assert "nothing was accepted" in body["detail"]
    assert "s3://" not in body["detail"]
    assert response.headers["retry-after"] == "30"
    counts = web.services.recorder.take().counts
    assert counts.get((OBJECT_FAILURES.name, ("write",)), 0) == (1 if status == 503 else 0)
    assert await needed_spool_names(store) == set()
    assert web.services.spool_room.taken == 0
    assert list(web.spool.iterdir()) == []
    line.rule = lambda method, path: None
    assert server.names() == set()
    assert (await web.client.post("/async-batch-caption", files=files)).status_code == 202


async def test_an_upload_that_breaks_off_sends_nothing(web: WebProcess, line: Wire) -> None:
    """It has arrived in part, more than what stays in memory."""

    async def body() -> AsyncIterator[bytes]:
        yield b'--edge\r\ncontent-disposition: form-data; name="images"; filename="a"\r\n\r\n' + PNG
        yield bytes(3_000_000)

    headers = {"content-type": "multipart/form-data; boundary=edge"}
    response = await web.client.post("/async-batch-caption", content=body(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")
    assert not line.requests
    assert list(web.spool.iterdir()) == []


async def test_a_task_that_is_refused_after_its_upload_leaves_no_object(
    web: WebProcess, server: S3Server
) -> None:
    response = await web.client.post("/async-batch-caption", files=SOME, data={"num_beams": "x"})
    assert response.status_code == 422
    assert server.names() == set()


async def test_orphans_are_removed_when_they_were_seen_twice(
    server: S3Server, tmp_path: Path
) -> None:
    """What a running upload has just stored is new to the second listing."""
    spool = home_in(tmp_path, server).spool
    (needed,) = await stored(spool, b"needed")
    (orphan,) = await stored(spool, b"orphan")
    now = 0.0

    async def names() -> Collection[str]:
        return {needed.file}

    cleaner = SpoolCleaner(spool, names, monotonic=lambda: now)
    work = asyncio.create_task(cleaner.run())
    assert await cleaner.remove_orphans(grace=100) == 0
    (running,) = await stored(spool, b"of a running upload")
    assert await cleaner.sweep_at_start() == 0
    assert server.names() == {needed.file, orphan.file, running.file}
    now = 101.0
    assert await cleaner.remove_orphans(grace=100) == 1
    assert server.names() == {needed.file, running.file}
    work.cancel()


async def test_the_bucket_is_measured_but_not_at_the_start(
    store: Engine, server: S3Server, line: Wire, tmp_path: Path
) -> None:
    """A start must not wait for a storage that cannot be reached."""
    uploads = server.settings(endpoint=line.endpoint)
    limits = LimitSettings(spool_bytes=100)
    settings = Settings(data=DataSettings(dir=tmp_path), uploads=uploads, limits=limits)
    settings.spool.mkdir()
    spool = open_spool(settings)
    await stored(spool, b"x" * 30)
    await stored(spool, b"x" * 3, durable=False)
    line.requests.clear()
    status, registry = StatusBoard(Roster(), Notifier({}), ["model0"]), Registry()
    cleaner = SpoolCleaner(spool, lambda: needed_spool_names(store))
    usage = SpoolUsage(settings, store, spool, cleaner, status, registry)

    def free() -> int | None:
        return status.state.spool_free

    await usage.measure_at_start()
    assert not line.requests
    assert free() is None
    assert status.state.disk_free is not None
    await usage.measure()
    assert free() == 67
    values = {found["name"]: found["value"] for found in registry.snapshot()}
    assert values[SPOOL_BYTES.name] == 33
    line.cut()
    await usage.measure()
    assert free() == 67, "the last one counts"


async def test_the_disk_is_measured_often_and_the_bucket_seldom(
    store: Engine, server: S3Server, line: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spoolusage, "PERIOD_SECONDS", 0.001)
    uploads = server.settings(endpoint=line.endpoint)
    settings = Settings(data=DataSettings(dir=tmp_path), uploads=uploads)
    settings.spool.mkdir()
    spool, measured = open_spool(settings), asyncio.Event()

    class CountedSpool:
        """Sets `measured` once the disk was measured ten times."""

        def __init__(self) -> None:
            self.disk = 0

        def disk_space(self) -> DiskSpace:
            self.disk += 1
            if self.disk == 10:
                loop.call_soon_threadsafe(measured.set)
            return spool.disk_space()

        def __getattr__(self, name: str) -> Any:
            return getattr(spool, name)

    loop = asyncio.get_running_loop()
    status = StatusBoard(Roster(), Notifier({}), ["model0"])
    cleaner = SpoolCleaner(spool, lambda: needed_spool_names(store))
    counted = cast("Spool", CountedSpool())
    running = asyncio.create_task(
        SpoolUsage(settings, store, counted, cleaner, status, Registry()).run()
    )
    async with asyncio.timeout(PATIENCE):
        await measured.wait()
    running.cancel()
    assert line.requests == {"GET": 1}

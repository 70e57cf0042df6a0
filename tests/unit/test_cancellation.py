"""What a cancelled task has borrowed is given back, whichever of its waits is cancelled."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import QueuePool, text
from sqlalchemy.ext.asyncio import AsyncConnection

from captiond.bulk.bulk_captioner import BulkCaptioner
from captiond.bulk.hosted_model import HostedModel
from captiond.bulk.interim import InterimFiles
from captiond.databaseurl import DatabaseAddress
from captiond.jobs import Refused
from captiond.messages import ModelInfo
from captiond.settings.config import Settings
from captiond.shielding import in_thread
from captiond.spool import FolderSpool
from captiond.spool.staging import StagedWriter
from captiond.store import sqlite_file
from captiond.store.engine import Engine, looking_up, make_engine, reading, writing
from captiond.store.maintenance import checkpoint
from tests.cancellation import UNDISTURBED, Cancellation, cancellations, interrupted
from tests.patience import PATIENCE
from tests.unit.webprocess import MODEL

pytestmark = pytest.mark.anyio
Block = Callable[[Engine], AbstractAsyncContextManager[AsyncConnection]]


@pytest.mark.parametrize("block", [writing, reading])
@pytest.mark.parametrize("connected", [False, True])
async def test_a_cancelled_transaction_gives_its_connection_back(
    store_address: DatabaseAddress, block: Block, connected: bool
) -> None:
    """A connection that is being opened is closed as well, however often that is cancelled."""

    async def transaction(engine: Engine) -> None:
        async with block(engine) as connection:
            await connection.execute(text("SELECT 1"))

    async def cancel(cancellation: Cancellation) -> int:
        engine = make_engine(store_address)
        if connected:
            await transaction(engine)
        waits = await interrupted(transaction(engine), cancellation)
        async with writing(engine):
            pass
        pool = engine.sql.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedin() == 1, cancellation
        await engine.dispose()
        return waits

    for cancellation in cancellations(await cancel(UNDISTURBED)):
        await cancel(cancellation)


async def test_a_cancelled_checkpoint_leaves_no_impatient_connection(
    store_address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop cancels it. An error in place of the cancellation would end the service with it."""
    monkeypatch.setattr(sqlite_file, "LONG_LOG", -1)

    async def cancel(cancellation: Cancellation) -> int:
        engine = make_engine(store_address)
        async with reading(engine):
            pass
        waits = await interrupted(checkpoint(engine), cancellation)
        async with looking_up(engine) as connection:
            timeout = (await connection.execute(text("PRAGMA busy_timeout"))).scalar_one()
        assert timeout == sqlite_file.BUSY_SECONDS * 1000, cancellation
        await engine.dispose()
        return waits

    for cancellation in cancellations(await cancel(UNDISTURBED)):
        await cancel(cancellation)


def test_the_end_of_the_event_loop_waits_for_threads_before_their_callers_clean_up() -> None:
    """It cancels all tasks, also those that have begun the work of another one."""
    steps: list[str] = []
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert may_end.wait(PATIENCE)
        steps.append("written")

    async def caller() -> None:
        try:
            await in_thread(work)
        finally:
            steps.append("cleaned up")

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):  # a caller that does not wait cleans up now
                await asyncio.sleep(0)
            may_end.set()

    async def main() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(each) for each in (caller(), other())]
        await asyncio.to_thread(begun.wait)
        return tasks

    asyncio.run(main())
    assert steps == ["written", "cleaned up"]


async def test_a_commit_that_is_cancelled_has_ended_before_its_file_is_discarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would otherwise write to a descriptor that is closed, and to whatever gets its number."""
    begun, may_end = threading.Event(), threading.Event()
    finish = StagedWriter._finish

    def slow(writer: StagedWriter) -> None:
        begun.set()
        assert may_end.wait(PATIENCE)
        finish(writer)

    monkeypatch.setattr(StagedWriter, "_finish", slow)
    spool = FolderSpool(tmp_path)
    writer = spool.writer("w", durable=True)
    writer.begin()
    writer.write(memoryview(b"image"))
    writer.end()
    committing = asyncio.create_task(writer.commit())
    await asyncio.to_thread(begun.wait)
    committing.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not committing.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await committing
    writer.discard()
    assert spool.sizes() == {}


async def test_an_image_whose_caller_is_cancelled_leaves_no_interim_file(tmp_path: Path) -> None:
    class Model:
        async def model(self) -> ModelInfo:
            await asyncio.sleep(0)
            return MODEL

        async def caption(self, *_: object) -> Refused:
            await asyncio.sleep(0)
            return Refused("no", "corrupt_image", 400)

    async def cancel(cancellation: Cancellation) -> int:
        captioner = BulkCaptioner(Settings(), cast(HostedModel, Model()), InterimFiles(tmp_path))
        waits = await interrupted(captioner.caption_bytes(b"image"), cancellation)
        assert next(tmp_path.iterdir(), None) is None, cancellation  # noqa: ASYNC240
        return waits

    for cancellation in cancellations(await cancel(UNDISTURBED)):
        await cancel(cancellation)

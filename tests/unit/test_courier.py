"""What a courier does when the database fails between two calls."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from captiond.callbacks import DeliveryStatus
from captiond.errors import StorageFailed
from captiond.jobs import TaskView
from captiond.metrics import WEBHOOK_CALLS
from captiond.recording import Recorder
from captiond.settings.config import WebhookSettings
from captiond.store import deliveries, snapshots, tasks
from captiond.store.engine import Engine
from captiond.store.snapshots import TaskSnapshot
from captiond.supervisor import courier as couriers
from captiond.supervisor.courier import Courier
from captiond.supervisor.outgoing import ResponseHead
from captiond.supervisor.steadyclock import SteadyClock
from tests.patience import PATIENCE
from tests.unit.supervised import background, payloads, settings_in, until
from tests.unit.test_deliveries import refused

pytestmark = pytest.mark.anyio


async def test_a_task_that_cannot_be_read_costs_no_attempt(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its receiver was not called, and the database may be read again a second later."""
    reads, real = 0, snapshots.read_snapshot
    threads: list[threading.Thread] = []

    async def fail_once(engine: Engine, task_id: str) -> TaskSnapshot | None:
        nonlocal reads
        reads += 1
        if reads == 1:
            raise StorageFailed("disk I/O error")
        return await real(engine, task_id)

    async def accept(*_: object, **__: object) -> ResponseHead:
        return ResponseHead(204, 0.0)

    async def is_delivered() -> bool:
        (delivery,) = await deliveries.of_task(store, "t")
        return delivery.status is DeliveryStatus.DELIVERED

    def show(task: TaskView) -> dict[str, object]:
        threads.append(threading.current_thread())
        return {"task_id": task.id}

    monkeypatch.setattr(snapshots, "read_snapshot", fail_once)
    monkeypatch.setattr(couriers, "post", accept)
    settings = settings_in(tmp_path)
    webhooks = WebhookSettings(allow=("a.example",))
    settings, recorder = settings.model_copy(update={"webhooks": webhooks}), Recorder()
    await tasks.create_task(store, refused("t"))
    courier = Courier(settings, store, payloads(store, show), SteadyClock(store), recorder)
    async with asyncio.timeout(PATIENCE), background(courier.run()):
        await until(is_delivered)
    (delivery,) = await deliveries.of_task(store, "t")
    assert (reads, delivery.attempts) == (2, 1)
    assert threads != [threading.current_thread()], "a large task would hold up the supervisor"
    assert recorder.take().counts == {(WEBHOOK_CALLS.name, ("delivered",)): 1}


async def test_a_secret_that_cannot_be_read_costs_no_attempt(
    store: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature is made once the operator has mended the file."""
    signatures: list[str] = []

    async def accept(_: object, headers: dict[str, str], *__: object, **___: object) -> Any:
        signatures.append(headers["webhook-signature"])
        return ResponseHead(204, 0.0)

    async def is_delivered() -> bool:
        (delivery,) = await deliveries.of_task(store, "t")
        return delivery.status is DeliveryStatus.DELIVERED

    monkeypatch.setattr(couriers, "post", accept)
    monkeypatch.setattr(couriers, "RESERVE_SECONDS", 0.0)
    webhooks = WebhookSettings(allow=("a.example",), timeout_seconds=1)
    settings = settings_in(tmp_path).model_copy(update={"webhooks": webhooks})
    settings.signing_secret.write_text("nonsense")
    await tasks.create_task(store, refused("t"))
    shown = payloads(store, lambda task: {"task_id": task.id})
    courier = Courier(settings, store, shown, SteadyClock(store))
    with capture_logs() as logs:
        async with asyncio.timeout(PATIENCE), background(courier.run()):
            await until(lambda: "storage_failing" in {entry["event"] for entry in logs})
            settings.signing_secret.unlink()  # another one is made
            await until(is_delivered)
    (delivery,) = await deliveries.of_task(store, "t")
    assert (delivery.attempts, len(signatures)) == (1, 1)
    (failing,) = [entry for entry in logs if entry["event"] == "storage_failing"]
    assert "correct it, or remove the file" in failing["reason"]

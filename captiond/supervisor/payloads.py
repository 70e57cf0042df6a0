"""The bodies of webhooks: what has finished, when, and how clients read it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from captiond.errors import ImportNotFound
from captiond.jobs import Status, TaskView
from captiond.store import shards, snapshots
from captiond.store.deliveries import Delivery
from captiond.store.engine import Engine
from captiond.store.shards import ImportState

ShowTask = Callable[[TaskView], Mapping[str, object]]
ShowImport = Callable[[ImportState], Mapping[str, object]]


class Payloads:
    """Makes the bodies. `show_task` and `show_import` return what the HTTP API does."""

    def __init__(self, engine: Engine, show_task: ShowTask, show_import: ShowImport) -> None:
        self._engine = engine
        self._show_task = show_task
        self._show_import = show_import

    async def of(self, delivery: Delivery) -> str | None:
        """Return the body of a call, or None if its task or its import is gone.

        Raises:
            StoreError: It cannot be read now.
        """
        if delivery.task_id is not None:
            return await self._of_task(delivery.task_id)
        return await self._of_import(delivery.import_id or "")

    async def _of_task(self, task_id: str) -> str | None:
        task = await snapshots.read_snapshot(self._engine, task_id)
        if task is None:
            return None
        # The results of a large task take half a second, in which no image would be assigned.
        return await asyncio.to_thread(lambda: task_payload(task.view(), self._show_task))

    async def _of_import(self, import_id: str) -> str | None:
        try:
            state = await shards.read_import(self._engine, import_id)
        except ImportNotFound:
            return None
        return payload("import", state.status, state.finished_at, self._show_import(state))


def task_payload(task: TaskView, show: ShowTask) -> str:
    """Return the body of a call for a task."""
    return payload("task", task.status, task.finished_at, show(task))


def payload(
    kind: str, status: Status, finished_at: float | None, shown: Mapping[str, object]
) -> str:
    """Return the body of a call. It is the same for each call: what is finished does not change."""
    assert finished_at is not None
    return json.dumps(
        {
            "type": f"{kind}.{status.value.lower()}",
            "timestamp": datetime.fromtimestamp(finished_at, UTC).isoformat(),
            "data": shown,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )

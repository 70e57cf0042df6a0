"""What the supervisor does with the tasks that fail while they are claimed."""

from pathlib import Path

import pytest
from sqlalchemy import text

from captiond.jobs import Status
from captiond.metrics import CLAIMED, IMAGES_FINISHED
from captiond.store import tasks
from captiond.store.engine import Engine, writing
from tests.unit.supervised import background, supervised, until
from tests.unit.test_deliveries import task

pytestmark = pytest.mark.anyio


async def test_the_file_of_a_task_that_fails_in_a_claim_is_removed(
    store: Engine, tmp_path: Path
) -> None:
    """Nothing else would remove it for an hour: no model process ever has an image of the task."""
    await tasks.create_task(store, task("t", images=2))
    async with writing(store) as connection:
        await connection.execute(text("UPDATE tasks SET options = '{'"))
    async with supervised(tmp_path, store) as parts:
        (parts.settings.spool / "spool-t").write_bytes(b"x")
        parts.dispatcher.model_ready("model0", 8, 0)
        async with background(parts.assignment.run_bulk()):
            await until(lambda: not any(parts.settings.spool.iterdir()))
        assert parts.recorder.take().counts == {
            (CLAIMED.name, ()): 0,
            (IMAGES_FINISHED.name, ("bulk", "internal_error")): 2,
        }
    ended = await tasks.read_task(store, "t")
    assert ended is not None
    assert ended.status is Status.FAILED

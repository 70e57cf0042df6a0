"""Several model processes, one for each device of the settings."""

from pathlib import Path

import psutil

from tests.conftest import png
from tests.queued_import import QueuedImport
from tests.service import Service, query, running, stopped_without_a_lock, wait_for

IMAGES = 40


def accept(service: Service, first: int) -> str:
    files = [("images", ("a.png", png(first + number))) for number in range(IMAGES)]
    response = service.client.post("/async-batch-caption", files=files)
    assert response.status_code == 202
    task_id: str = response.json()["task_id"]
    return task_id


def test_two_share_the_work_and_one_continues_without_the_other(tmp_path: Path) -> None:
    """One is killed with images of a task and amid a shard. No row is lost or doubled."""
    environ = {"CAPTIOND_MODEL__BATCH_SIZE": "4"}
    with running(tmp_path / "data", "--device", "cpu,cpu", **environ) as service:
        service.wait_for_entries("model_ready", 2)
        done = service.finished(accept(service, 0))
        assert done["status"] == "COMPLETED"
        batches = len(service.logged("batch"))
        assert len({entry["process"] for entry in service.logged("batch")}) == 2
        work = QueuedImport(service, tmp_path / "import", 60, shard=20, first=2 * IMAGES)
        process, owner, number = wait_for(
            lambda: stopped_at_a_shard(service, batches), "a process that works at a shard"
        )
        task_id = accept(service, IMAGES)
        claimed = f"SELECT id FROM images WHERE owner = '{owner}'"
        wait_for(lambda: query(service.data, claimed), "images of the process")
        process.kill()
        done = service.finished(task_id)
        assert done["status"] == "COMPLETED"
        assert len(done["result"]) == IMAGES
        check_import(work)
        attempts = f"SELECT attempt, refusals FROM shards WHERE number = {number}"
        assert query(service.data, attempts) == [(2, 0)]


def stopped_at_a_shard(service: Service, batches: int) -> tuple[psutil.Process, str, int] | None:
    """Stop a process that has a shard. Return it, its claims' owner and the shard's number.

    The process has captioned a batch since there were so many `batches`. None is returned if it
    has finished the shard meanwhile, or if it was stopped in a transaction.
    """
    claimed = "SELECT owner, number FROM shards WHERE status = 'PROCESSING' ORDER BY number"
    at_work = {entry["process"] for entry in service.logged("batch")[batches:]}
    pids = {entry["child"]: entry["pid"] for entry in service.logged("child_started")}
    for owner, number in query(service.data, claimed):
        name = owner.partition("/")[2]
        if name not in at_work:
            continue
        process = psutil.Process(pids[name])
        if stopped_without_a_lock(process, service.data):
            if (owner, number) in query(service.data, claimed):
                return process, owner, number
            process.resume()
    return None


def check_import(work: QueuedImport) -> None:
    """Wait for the end of an import, and check that each image has one row."""
    item = work.finished()
    assert (item["status"], item["shards"]["open"]) == ("COMPLETED", 0)
    images = len(work.names)
    assert item["progress"] == {"total": images, "done": images, "failed": 0}
    rows = work.rows()
    assert [row["uri"] for row in rows] == [str(work.photos / name) for name in work.names]
    assert all(row["caption"] and row["error"] is None for row in rows)

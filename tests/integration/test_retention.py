"""Retention in the running service."""

from pathlib import Path

from tests.conftest import png
from tests.service import query, running_without_model


def test_finished_tasks_are_deleted_and_waiting_ones_stay(data: Path) -> None:
    with running_without_model(data) as service:
        waiting, finished = (
            service.client.post("/async-batch-caption", files={"images": file}).json()["task_id"]
            for file in [("a.png", png(1)), ("b.png", b"no image")]
        )
        assert service.task(finished)["status"] == "FAILED"
        assert service.stop() == 0
    with running_without_model(data, CAPTIOND_RETENTION__TASK_DAYS="0.000001") as service:
        assert service.wait_for_entries("retention", 1)[0]["tasks"] == 1
        assert service.task(waiting)["status"] == "PENDING"
        status = service.client.get(f"/async-batch-caption/status/{finished}")
        assert (status.status_code, status.json()["code"]) == (404, "task_not_found")
        assert service.stop() == 0
    assert query(data, "SELECT task_id FROM images") == [(waiting,)]

"""Retention in the running service."""

from pathlib import Path

from tests.conftest import png
from tests.service import Service, query, wait_for

NO_MODEL = ("--model", "nobody/nothing")


def test_finished_tasks_go_and_waiting_ones_stay(data: Path) -> None:
    service = Service(data, *NO_MODEL, HF_HUB_OFFLINE="1")
    try:
        wait_for(lambda: service.client.get("/livez").is_success, "the web process")
        waiting, ended = (
            service.client.post("/async-batch-caption", files={"images": file}).json()["task_id"]
            for file in [("a.png", png(1)), ("b.png", b"no image")]
        )
        assert service.task(ended)["status"] == "FAILED"
        assert service.stop() == 0
    finally:
        service.close()
    soon = {"CAPTIOND_RETENTION__TASK_DAYS": "0.000001"}
    service = Service(data, *NO_MODEL, HF_HUB_OFFLINE="1", **soon)
    try:
        wait_for(lambda: bool(service.logged("retention")), "the deletion")
        assert service.logged("retention")[0]["tasks"] == 1
        wait_for(lambda: service.client.get("/livez").is_success, "the web process")
        assert service.task(waiting)["status"] == "PENDING"
        status = service.client.get(f"/async-batch-caption/status/{ended}")
        assert (status.status_code, status.json()["code"]) == (404, "task_not_found")
        assert service.stop() == 0
    finally:
        service.close()
    assert query(data, "SELECT task_id FROM images") == [(waiting,)]

"""The limit of the spool in the running service, and the metrics that a signal writes."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import png
from tests.service import Service, query, running, running_without_model, wait_for

LARGE = png(1) + b"\0" * 100_000  # the rest behind an image is ignored


def accepted(service: Service) -> httpx.Response:
    return service.client.post("/async-batch-caption", files={"images": ("a.png", LARGE)})


def metrics(service: Service) -> dict[str, list[dict[str, Any]]]:
    """The metrics of the service as they are now, by their names."""
    path = service.data / "metrics.json"
    path.unlink(missing_ok=True)
    service.process.send_signal(signal.SIGUSR1)
    wait_for(path.exists, "the metrics")
    series: list[dict[str, Any]] = json.loads(path.read_text())
    return {name: [one for one in series if one["name"] == name] for name in names(series)}


def names(series: list[dict[str, Any]]) -> set[str]:
    return {one["name"] for one in series}


def test_a_full_spool_refuses_tasks_until_it_has_space_again(data: Path) -> None:
    with running_without_model(data, CAPTIOND_LIMITS__SPOOL_BYTES="150000") as service:
        first = accepted(service)
        assert first.status_code == 202, first.text
        refused = wait_for(lambda: refusal(service), "the next measurement of the spool")
        assert refused.json()["code"] == "spool_full"
        assert "(150000 bytes) ([limits] spool_bytes)" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
        stored = query(data, "SELECT count(*) FROM tasks")[0][0]
        assert len(list((data / "spool").iterdir())) == stored, "a refused upload leaves nothing"
        for (task_id,) in query(data, "SELECT id FROM tasks"):
            service.client.delete(f"/async-batch-caption/{task_id}").raise_for_status()
        wait_for(lambda: accepted(service).status_code == 202, "space in the spool")
        assert service.stop() == 0


def refusal(service: Service) -> httpx.Response | None:
    """The answer to an upload that is refused with 507; None if it is accepted."""
    answer = accepted(service)
    return answer if answer.status_code == 507 else None


def test_a_signal_writes_the_metrics_of_the_supervisor(data: Path) -> None:
    with running(data) as service:
        task_id = accepted(service).json()["task_id"]
        service.finished(task_id)
        (model,) = service.children("model")
        model.kill()
        wait_for(lambda: service.logged("model_died"), "the death to be seen")
        found = metrics(service)
        assert found["captiond_images_claimed_total"][0]["value"] == 1
        assert found["captiond_process_restarts_total"] == [
            {
                "name": "captiond_process_restarts_total",
                "labels": {"kind": "model", "death": "killed"},
                "value": 1,
            }
        ]
        waiting = {each["labels"]["lane"]: each["value"] for each in found["captiond_queue_images"]}
        assert waiting == {"interactive": 0, "bulk": 0}
        assert service.stop() == 0


@pytest.mark.parametrize("kind", ["web", "model"])
def test_the_signal_ends_no_child_process(service: Service, kind: str) -> None:
    """`pkill -USR1 captiond` reaches all of them."""
    (child,) = service.children(kind)
    child.send_signal(signal.SIGUSR1)
    assert "captiond_spool_bytes" in metrics(service)
    assert child.is_running()
    assert service.logged(f"{kind}_died") == []

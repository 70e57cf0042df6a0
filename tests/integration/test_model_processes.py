"""Several model processes, one for each device of the settings."""

from pathlib import Path

from tests.conftest import png
from tests.service import Service, running

IMAGES = 40


def accept(service: Service, first: int) -> str:
    files = [("images", ("a.png", png(first + number))) for number in range(IMAGES)]
    response = service.client.post("/async-batch-caption", files=files)
    assert response.status_code == 202
    task_id: str = response.json()["task_id"]
    return task_id


def test_two_share_the_work_and_one_continues_without_the_other(tmp_path: Path) -> None:
    environ = {"CAPTIOND_MODEL__BATCH_SIZE": "4"}
    with running(tmp_path / "data", "--device", "cpu,cpu", **environ) as service:
        service.wait_for_entries("model_ready", 2)
        done = service.finished(accept(service, 0))
        assert done["status"] == "COMPLETED"
        worked = {entry["process"] for entry in service.logged("batch")}
        assert len(worked) == 2
        task_id = accept(service, IMAGES)
        service.children("model")[0].kill()
        done = service.finished(task_id)
        assert done["status"] == "COMPLETED"
        assert len(done["result"]) == IMAGES


def test_its_memory_is_in_huge_pages_if_the_kernel_has_them(service: Service) -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    memory = Path(f"/proc/{service.child('model').pid}/smaps_rollup").read_text()
    kilobytes = int(memory.partition("AnonHugePages:")[2].split()[0])
    assert (kilobytes > 100_000) == ("[never]" not in setting)

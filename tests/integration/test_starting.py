"""A wrong start prints one line that says what is wrong and what to do, and no traceback."""

import contextlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

import captiond as package
from tests.commands import command
from tests.conftest import png
from tests.patience import PATIENCE
from tests.service import MODEL, Service, captiond, http_client, running, wait_for
from tests.warmstart import COLD

NO_MODEL = ("--model", "nobody/nothing")
NOWHERE = {"HF_HUB_OFFLINE": "1"}
UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # the discard port: nobody listens


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_a_wrong_setting_exits_with_2_and_names_file_key_and_value(tmp_path: Path) -> None:
    (tmp_path / "captiond.toml").write_text("[server]\nport = 'http'")
    result = captiond("serve", cwd=tmp_path)
    assert result.returncode == 2
    assert last_line(result).startswith("captiond: captiond.toml: server.port = 'http': ")


def test_a_wrong_flag_exits_with_2(tmp_path: Path) -> None:
    assert captiond("serve", "--prot", "1", cwd=tmp_path).returncode == 2
    assert command("serve", "--port", "99999", cwd=tmp_path).returncode == 2


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = captiond("serve", "--port", port, cwd=tmp_path)
    assert result.returncode == 1
    assert last_line(result) == (
        f"captiond: 127.0.0.1:{port}: cannot listen there: Address already in use; stop what "
        "uses this port, or choose another with --port"
    )


def test_a_data_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = captiond("serve", "--port", "0", "--data-dir", "file/data", cwd=tmp_path)
    assert result.returncode == 1
    assert last_line(result).startswith("captiond: file/data: cannot be made: Not a directory")


def test_a_second_service_on_the_same_folder(service: Service) -> None:
    result = captiond("serve", "--port", "0", "--data-dir", str(service.data), cwd=service.data)
    assert result.returncode == 1
    assert f"in use by the captiond with process id {service.process.pid}" in last_line(result)


def test_a_damaged_database(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "captiond.db").write_bytes(b"damaged" * 1000)
    result = captiond("serve", "--port", "0", cwd=tmp_path)
    assert result.returncode == 1
    assert "data/captiond.db: cannot be used" in last_line(result)


def test_a_missing_model_keeps_the_service_up_and_tasks_wait_for_it(data: Path) -> None:
    with Service(data, *NO_MODEL, **NOWHERE, MODEL_NAME="of the replaced service") as service:
        (ignored,) = service.logged("variables_without_effect")
        assert ignored["use_instead"]["MODEL_NAME"] == "CAPTIOND_MODEL__NAME"
        assert (data / "captiond.url").read_text() == f"{service.url}\n"

        def unhealthy() -> dict[str, object] | None:
            body: dict[str, object] = service.client.get("/health").json()
            return body if body["status"] == "unhealthy" else None

        health = wait_for(unhealthy, "the model to be missed")
        assert "captiond pull nobody/nothing" in str(health["reasons"])
        for response in (
            service.client.get("/readyz"),
            service.client.post("/caption", files={"image": ("a.png", png(1))}),
        ):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            assert "captiond pull nobody/nothing" in response.json()["detail"]
        files = {"images": ("a.png", png(1))}
        accepted = service.client.post("/async-batch-caption", files=files)
        assert accepted.status_code == 202
        assert service.stop() == 0
    check_fallback(data, accepted.json()["task_id"])


def check_fallback(data: Path, task_id: str) -> None:
    """Check that a fallback runs where the model cannot be downloaded, and is announced."""
    with running(data, *NO_MODEL, CAPTIOND_MODEL__FALLBACK=MODEL, **UNREACHABLE) as service:
        assert service.finished(task_id)["status"] == "COMPLETED"
        health = service.client.get("/health").json()
        assert (health["status"], health["model"], health["fallback"]) == ("healthy", MODEL, True)
        assert "nobody/nothing is not available" in health["warning"]
        assert service.logged("model_fallback")[0]["level"] == "warning"
        body = service.client.post("/caption", files={"image": ("a.png", png(1))}).json()
        assert body["model"] == MODEL


@pytest.mark.parametrize("module", ["captiond.web.app", "captiond.supervisor.supervisor"])
def test_web_and_supervisor_are_free_of_torch(module: str) -> None:
    script = (
        f"import sys, {module}; heavy = {{'torch', 'transformers', 'spacy', 'numpy', 'PIL'}};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert result.stdout.strip() == "[]"


def test_the_memory_of_the_processes(data: Path) -> None:
    """Without a model it is small. That of the model is in huge pages if the kernel has them."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    with running(data, **COLD) as service:
        assert service.client.post("/caption", files={"image": ("a.png", png(1))}).is_success
        assert service.child("web").memory_info().rss < 150e6
        assert psutil.Process(service.process.pid).memory_info().rss < 100e6
        memory = Path(f"/proc/{service.child('model').pid}/smaps_rollup").read_text()
    kilobytes = int(memory.partition("AnonHugePages:")[2].split()[0])
    assert (kilobytes > 50_000) == ("[never]" not in setting)


def test_a_change_of_the_code_restarts_the_service(tmp_path: Path) -> None:
    root = Path(package.__file__).parents[1]
    for folder in ("captiond", "migrations"):
        shutil.copytree(root / folder, tmp_path / folder)
    with Service(tmp_path / "data", "--reload", PYTHONPATH=str(tmp_path)) as service:

        def noticed() -> bool:  # the first times it may not look yet
            (tmp_path / "captiond" / "jobs.py").touch()
            return bool(service.logged("code_changed"))

        wait_for(noticed, "the change of the code")
        second = service.wait_for_entries("listening", 2)[1]["url"]
        wait_for(lambda: is_alive(second), "the service that was started again")


def is_alive(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http_client().get(f"{url}/livez").status_code == 200
    return False

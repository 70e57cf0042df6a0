"""`captiond tasks`: beside a running service, and without one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from captiond.cli.listings import moment
from tests.commands import command
from tests.conftest import png
from tests.service import Service, captiond, query, upload
from tests.terminals import on_terminal


def accept(service: Service, *files: tuple[str, bytes]) -> str:
    response = service.client.post(
        "/async-batch-caption", files=[("images", file) for file in files]
    )
    task_id: str = response.json()["task_id"]
    return task_id


def tasks(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command("tasks", *arguments, "--data-dir", str(data), cwd=data.parent)


def listed(data: Path, *arguments: str) -> list[dict[str, Any]]:
    result = tasks(data, "list", *arguments)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def shown(data: Path, *arguments: str, columns: int = 200) -> str:
    program = [sys.executable, "-m", "captiond", "tasks", *arguments, "--data-dir", str(data)]
    environ = {"COLUMNS": str(columns)}
    with on_terminal(program, "stdout", cwd=data.parent, environ=environ) as terminal:
        terminal.end()
    return terminal.shown


def test_tasks_are_listed_and_shown(service: Service) -> None:
    good = accept(service, upload("boat_and_sun.png"), ("bad\x1b[2J.png", b"no image"))
    bad = accept(service, ("bad.png", b"no image"))
    service.finished(good)
    newest = listed(service.data, "--limit", "2")
    assert [task["task_id"] for task in newest] == [bad, good]
    assert newest[1]["progress"] == {"total": 2, "done": 2, "failed": 1}
    assert bad in {task["task_id"] for task in listed(service.data, "--status", "failed")}
    assert good not in {task["task_id"] for task in listed(service.data, "--status", "failed")}
    described = json.loads(tasks(service.data, "show", good).stdout)
    assert described == {**service.task(good), "deliveries": []}
    table = shown(service.data, "list", "--limit", "2")
    assert good in table
    assert "2/2" in table
    narrow = shown(service.data, "list", "--limit", "2", columns=80)
    for cell in (good, "COMPLETED", "accepted", moment(newest[1]["created_at"]).plain):
        assert cell in narrow, "a narrow terminal has whole cells"
    page = shown(service.data, "show", good)
    assert described["result"][0]["caption"] in page
    assert "not_an_image" in page
    assert "\x1b[2J" not in page, "a file name is no command to the terminal"


def test_a_waiting_task_is_cancelled(service: Service) -> None:
    data = service.data
    with service.suspended_model():
        task_id = accept(service, ("a.png", png(1, 91)), ("b.png", png(2, 91)))
        for run in (captiond, command):
            result = run("tasks", "cancel", task_id, "--data-dir", str(data), cwd=data.parent)
            assert (result.returncode, result.stdout) == (0, f"{task_id}: cancelled\n")
        assert service.task(task_id)["status"] == "CANCELLED"
        assert query(data, f"SELECT spool FROM tasks WHERE id = '{task_id}'") == [(None,)]
        ended = accept(service, ("x.png", b"x"))
        assert "has finished already" in tasks(data, "cancel", ended).stderr
    newest = listed(data, "--limit", "2")
    assert [task["task_id"] for task in newest] == [ended, task_id]
    assert [task["status"] for task in newest] == ["FAILED", "CANCELLED"]


def test_what_is_wrong_is_one_line(data: Path, service: Service) -> None:
    for arguments in (["list"], ["show", "x"], ["cancel", "x"], ["redeliver", "x"]):
        result = tasks(data, *arguments)
        assert result.returncode == 1
        assert "there is no database; name the service's data folder" in result.stderr
        assert not data.exists()
    for name in ("show", "cancel"):
        result = tasks(service.data, name, "x")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "x: there is no such task" in result.stderr
    assert tasks(data, "list", "--status", "done").returncode == 2
    data.mkdir()
    (data / "captiond.db").write_bytes(b"damaged" * 1000)
    assert "captiond.db: cannot be used" in tasks(data, "list").stderr

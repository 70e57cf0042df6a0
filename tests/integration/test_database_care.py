"""Backup, check and upgrade of the database, beside a working service and after its death."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from captiond.cli.database_check import check_all
from captiond.settings.config import DataSettings, Settings
from captiond.store import consistency
from captiond.store.engine import Engine
from tests.commands import command
from tests.conftest import png
from tests.patience import PATIENCE
from tests.service import (
    Service,
    captiond,
    query,
    running,
    running_without_model,
    upload,
    wait_for,
)
from tests.terminals import on_terminal


def db(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command("db", *arguments, "--data-dir", str(data), cwd=data.parent)


def accept(service: Service, first: int, images: int = 8) -> str:
    files = [("images", (f"{n}.png", png(n))) for n in range(first, first + images)]
    response = service.client.post("/async-batch-caption", files=files)
    assert response.status_code == 202
    task_id: str = response.json()["task_id"]
    return task_id


@contextmanager
def at_work(service: Service) -> Iterator[list[str]]:
    """Send tasks while the block runs, and yield the list that their ids are added to."""
    over, accepted = threading.Event(), [accept(service, 0)]

    def work() -> None:
        while not over.is_set():
            accepted.append(accept(service, len(accepted) * 8))
            service.finished(accepted[-2])  # one task waits at most, whatever this machine can do

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield accepted
    finally:
        over.set()
        worker.join()


def test_a_backup_of_a_working_service_is_restored_and_served(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    with running(data, CAPTIOND_CACHE__ENABLED="false") as service:
        with at_work(service) as accepted:
            finished = service.finished(accepted[0])
            wait_for(lambda: len(accepted) > 5, "more tasks")
            program = ("db", "backup", str(copy), "--data-dir", str(data))
            result = captiond(*program, cwd=tmp_path)
            assert result.returncode == 0, result.stderr
            assert result.stdout == f"{copy}: {copy.stat().st_size} bytes, checked\n"
            assert result.stderr == "", "no progress bar without a terminal"
        assert service.stop() == 0
    assert sorted(path.name for path in tmp_path.glob("backup*")) == ["backup.db"]
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(copy, restored / "captiond.db")
    with running(restored) as service:
        assert service.task(accepted[0]) == finished
        for (task_id,) in query(restored, "SELECT id FROM tasks"):
            service.finished(task_id)
        anew = accept(service, 5)
        assert service.finished(anew)["status"] == "COMPLETED"
        assert service.stop() == 0
    codes = "SELECT DISTINCT json_extract(result, '$.code') FROM images WHERE status = 'FAILED'"
    assert {code for (code,) in query(restored, codes)} <= {"spool_error"}
    assert db(restored, "check").returncode == 0


def test_a_backup_replaces_a_file_only_by_force(service: Service, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"precious")
    result = db(service.data, "backup", str(copy))
    assert result.returncode == 1
    assert result.stderr == (
        f"captiond: {copy}: exists already; name another file, or use --force\n"
    )
    assert copy.read_bytes() == b"precious"
    assert db(service.data, "backup", "--force", str(copy)).returncode == 0
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        tasks = "SELECT id FROM tasks ORDER BY id"
        assert connection.execute(tasks).fetchall() == query(service.data, tasks)
    own = service.data / "captiond.db"
    for target, reason in [
        (own, "is the database itself"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "copy.db", "cannot be written: No such file or directory"),
    ]:
        result = db(service.data, "backup", "--force", str(target))
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert reason in result.stderr
    assert db(service.data, "backup").returncode == 2
    assert list(tmp_path.glob("*.part")) == []


def test_a_backup_that_does_not_fit_leaves_nothing(service: Service, tmp_path: Path) -> None:
    program = f"ulimit -f 16; exec {sys.executable} -m captiond db backup copy.db"
    result = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {program} --data-dir {service.data}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert "cannot be copied" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_sees_the_backup_go_on(service: Service, tmp_path: Path) -> None:
    backup = [sys.executable, "-m", "captiond", "db", "backup", "copy.db"]
    program = [*backup, "--data-dir", str(service.data)]
    with on_terminal(program, "stdout", "stderr", cwd=tmp_path, environ={}) as terminal:
        assert terminal.end() == 0
    assert "copying" in terminal.shown
    assert "bytes, checked" in terminal.shown


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a service that captioned an image and was stopped."""
    data = tmp_path_factory.mktemp("worked") / "data"
    with running(data) as service:
        files = [("images", upload("boat_and_sun.png")), ("images", ("bad.png", b"x"))]
        accepted = service.client.post("/async-batch-caption", files=files).json()
        assert service.finished(accepted["task_id"])["status"] == "COMPLETED"
        checked = db(data, "check")
        assert (checked.returncode, checked.stdout) == (
            0,
            f"{data}/captiond.db: ok: 1 tasks (0 open), 2 images, 0 imports\n",
        )
        assert service.stop() == 0
    return data


@pytest.fixture
def ended(worked: Path, data: Path) -> Path:
    """A copy of that folder, for a test that damages it."""
    return Path(shutil.copytree(worked, data))


def change(data: Path, sql: str) -> None:
    with closing(sqlite3.connect(data / "captiond.db")) as connection, connection:
        connection.execute(sql)


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE images SET status = 'PENDING'", "2 of its images are not finished"),
        ("UPDATE tasks SET status = 'PROCESSING'", "all of its images are finished"),
        ("UPDATE tasks SET status = 'FAILED'", "one of its images is COMPLETED"),
        ("UPDATE tasks SET finished_at = NULL", "has no finish time"),
        ("UPDATE images SET result = NULL", "is COMPLETED, but has no result"),
        ("UPDATE tasks SET callback_url = 'http://a/'", "its webhook is not due"),
        ("DELETE FROM images", "has no images"),
        ("DELETE FROM tasks", "its row of tasks is gone"),
    ],
)
def test_each_contradiction_is_found(ended: Path, sql: str, told: str) -> None:
    change(ended, sql)
    lines: list[str] = []
    assert asyncio.run(check_all(Settings(data=DataSettings(dir=ended)), lines.append)) > 0
    assert told in "\n".join(lines)
    assert "captiond.db: problems: " in lines[-1]


def test_files_without_rows_and_rows_without_files_are_found(data: Path) -> None:
    with running_without_model(data) as service:
        lost, cut, whole = (accept(service, number, images=2) for number in (1, 3, 5))
        assert db(data, "check").returncode == 0
        service.kill()
    names = dict(query(data, "SELECT id, spool FROM tasks"))
    (data / "spool" / names[lost]).unlink()
    os.truncate(data / "spool" / names[cut], 9)
    (data / "spool" / "web0-orphan.part").write_bytes(b"of an upload that nobody finished")
    result = db(data, "check")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    for line, words in zip(
        sorted(lines[:3]),
        sorted(
            [
                f"{names[lost]}: missing or cut short: the open images of task {lost} ",
                f"{names[cut]}: missing or cut short: the open images of task {cut} ",
                "web0-orphan.part: belongs to no task; the next start removes it",
            ]
        ),
        strict=True,
    ):
        assert words in line
    with running(data) as service:
        assert service.finished(whole)["status"] == "COMPLETED"
        assert service.finished(lost)["result"][0]["code"] == "spool_error"
        assert service.finished(cut)["status"] == "FAILED"
        assert service.stop() == 0
    assert db(data, "check").returncode == 0


def stray(data: Path) -> Path:
    """Write a file as an upload that has just begun does, and return its path."""
    path = data / "spool" / "web0-stray.part"
    path.write_bytes(b"of an upload that nobody has finished")
    return path


def test_a_service_may_start_during_a_check_and_have_uploads(
    ended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    settings = Settings(data=DataSettings(dir=ended))
    contradictions = consistency.contradictions

    async def start_meanwhile(engine: Engine) -> list[str]:
        service = stack.enter_context(running_without_model(ended))
        assert service.client.get("/livez").is_success
        stray(ended)
        return await contradictions(engine)

    monkeypatch.setattr(consistency, "contradictions", start_meanwhile)
    with ExitStack() as stack:
        assert asyncio.run(check_all(settings, told.append)) == 0, told
    monkeypatch.undo()
    assert asyncio.run(check_all(settings, told.append)) == 1
    assert told[1].endswith("web0-stray.part: belongs to no task; the next start removes it")


def test_a_check_without_a_database_says_so(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    results = [db(missing, name) for name in ("check", "upgrade")]
    assert [result.returncode for result in results] == [1, 1]
    assert results[0].stderr == results[1].stderr
    assert results[0].stderr.startswith(f"captiond: {missing}/captiond.db: there is no database")
    assert not missing.exists()


def test_a_database_without_a_spool_is_checked(ended: Path) -> None:
    """A restored backup has no spool until the first start."""
    (ended / "spool").rmdir()
    assert db(ended, "check").returncode == 0


def test_a_lock_that_may_not_be_opened_is_reported(ended: Path) -> None:
    stray(ended)
    lock = ended / "captiond.lock"
    lock.chmod(0)
    powerless = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    program = [*powerless, sys.executable, "-m", "captiond", "db", "check"]
    result = subprocess.run(
        [*program, "--data-dir", str(ended)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    reason = "Permission denied; run captiond as the user that owns it"
    assert (result.returncode, result.stderr) == (
        1,
        f"captiond: {lock}: cannot be opened: {reason}\n",
    )


def test_damage_is_reported(ended: Path) -> None:
    path = ended / "captiond.db"
    content, numbers = bytearray(path.read_bytes()), Random(4)
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = numbers.randbytes(64)
    path.write_bytes(content)
    for arguments in (["check"], ["upgrade"], ["backup", str(ended / "copy.db")]):
        result = db(ended, *arguments)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        assert "damaged" in result.stdout + result.stderr or "cannot be used" in result.stderr
    assert not (ended / "copy.db").exists()


def test_upgrade_is_for_a_stopped_service(service: Service, tmp_path: Path) -> None:
    result = db(service.data, "upgrade")
    assert result.returncode == 1
    assert f"in use by the captiond with process id {service.process.pid}" in result.stderr
    copied = tmp_path / "data"
    copied.mkdir()
    assert db(service.data, "backup", str(copied / "captiond.db")).returncode == 0
    program = ("db", "upgrade", "--data-dir", str(copied))
    assert "is up to date: revision " in captiond(*program, cwd=tmp_path).stdout
    change(copied, "UPDATE alembic_version SET version_num = '9999'")
    for name in ("upgrade", "check"):
        result = db(copied, name)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert db(tmp_path / "nothing", "upgrade").returncode == 1
    assert not (tmp_path / "nothing").exists()

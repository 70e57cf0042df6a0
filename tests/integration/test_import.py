"""`captiond import`: real commands that are killed, stopped, and run side by side."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from captiond.references.shard_files import PLACE
from tests.commands import command
from tests.conftest import png
from tests.patience import PATIENCE
from tests.service import MODEL, ONE_THREAD, query, stopped_without_a_lock, wait_for

IMAGES, SHARD = 192, 8  # so many that a command is stopped in the middle
BAD = 17  # the number of a file that is no image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(IMAGES):
        (folder / f"{number:03}.png").write_bytes(b"x" if number == BAD else png(number))
    return folder


def arguments(photos: Path) -> list[str]:
    output = photos.parent / "results"
    flags = ["--data-dir", str(photos.parent / "data"), "--model", MODEL]
    flags += ["--set", "model.batch_size=4", "--set", "images.decoders=1"]
    return ["import", str(photos), "--output", str(output), "--shard-images", str(SHARD), *flags]


@contextmanager
def importing(photos: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `captiond import` within the block. It is killed at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "captiond", *arguments(photos)],
        cwd=photos.parent,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def files_of(photos: Path) -> list[Path]:
    return sorted((photos.parent / "results").glob("part-*.jsonl"))


def wait_for_files(photos: Path, number: int) -> None:
    wait_for(lambda: len(files_of(photos)) >= number, f"{number} files of results")


def expire_claims(photos: Path) -> None:
    """Let the claims of killed processes end now, instead of in a minute."""
    with sqlite3.connect(photos.parent / "data" / "captiond.db") as connection:
        connection.execute("UPDATE shards SET claimed_until = 0")
        connection.execute("UPDATE imports SET lister_until = 0")


def check_results(photos: Path) -> None:
    """Check that each image has one result, in the file of its shard."""
    rows: list[dict[str, Any]] = []
    for path in files_of(photos):
        part = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(part) == SHARD
        rows += part
    assert [row["uri"] for row in rows] == [str(each) for each in sorted(photos.iterdir())]
    assert [row["code"] for row in rows] == [
        "not_an_image" if number == BAD else None for number in range(IMAGES)
    ]
    assert all(row["caption"] for number, row in enumerate(rows) if number != BAD)
    names = {path.name for path in (photos.parent / "results").iterdir()}
    assert names == {PLACE, *(path.name for path in files_of(photos))}


def state_of(photos: Path) -> dict[str, Any]:
    data = str(photos.parent / "data")
    shown = command("imports", "list", "--data-dir", data, cwd=photos.parent)
    state: dict[str, Any] = json.loads(shown.stdout)
    return state


@pytest.mark.usefixtures("interruptible")
def test_killed_and_stopped_imports_go_on(photos: Path) -> None:
    """One is killed, and one is stopped by Ctrl-C. Two that share the rest finish it."""
    with importing(photos) as killed:
        wait_for_files(photos, 1)
        children = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
        wait_for(lambda: not any(each.is_running() for each in children), "the end of all")
    expire_claims(photos)
    written = len(files_of(photos))
    with importing(photos) as stopped:
        wait_for_files(photos, written + 2)
        stopped.send_signal(signal.SIGINT)
        _, errors = stopped.communicate(timeout=PATIENCE)
    assert stopped.returncode == -signal.SIGINT, errors
    assert errors.splitlines()[-1].startswith("captiond: stopped; the same command goes on")
    data = photos.parent / "data"
    assert query(data, "SELECT count(*) FROM shards WHERE status = 'PROCESSING'") == [(0,)], errors
    with importing(photos) as first, importing(photos) as second:
        outputs = [each.communicate(timeout=PATIENCE)[0] for each in (first, second)]
    assert [first.returncode, second.returncode] == [1, 1]  # one file is no image
    state = state_of(photos)
    assert state["progress"] == {"total": IMAGES, "done": IMAGES, "failed": 1}
    expected = f"COMPLETED: {IMAGES - 1} of {IMAGES} images captioned, 1 failed"
    assert all(expected in output for output in outputs)
    check_results(photos)
    check_export(photos, state["import_id"])


def check_export(photos: Path, name: str) -> None:
    data, file = str(photos.parent / "data"), photos.parent / "all.csv"
    result = command("export", name, "-o", str(file), "--data-dir", data, cwd=photos.parent)
    assert (result.returncode, result.stdout) == (0, "")
    lines = file.read_text().splitlines()
    assert lines[0].startswith("image_path,caption,tags,error")
    assert len(lines) == IMAGES + 1


def test_an_unknown_id_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    assert command("keys", "create", "one", *data, cwd=tmp_path).returncode == 0
    kept = tmp_path / "all.csv"
    kept.write_text("kept")
    for name, hint in (
        ("import_0", "there is no import import_0; captiond imports list and GET /imports show"),
        ("task_0", "there is no task task_0; captiond tasks list shows"),
    ):
        result = command("export", name, "-o", str(kept), *data, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(f"captiond: {hint}")
    assert kept.read_text() == "kept"
    shown = command("imports", "show", "import_0", *data, cwd=tmp_path)
    assert shown.returncode == 1
    assert "captiond imports list" in shown.stderr


def test_a_cancelled_import_stops(photos: Path) -> None:
    data = str(photos.parent / "data")
    with importing(photos) as process:
        wait_for_files(photos, 1)
        stopping = psutil.Process(process.pid), photos.parent / "data"
        wait_for(lambda: stopped_without_a_lock(*stopping), "a moment without a lock")
        name = state_of(photos)["import_id"]
        cancelled = command("imports", "cancel", name, "--data-dir", data, cwd=photos.parent)
        assert (cancelled.returncode, cancelled.stdout) == (0, f"{name}: cancelled\n")
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == f"captiond: {name} is cancelled"
    state = state_of(photos)
    assert (state["status"], state["shards"]["open"]) == ("CANCELLED", 0)
    again = command(*arguments(photos), cwd=photos.parent)
    assert again.returncode == 1
    assert "CANCELLED" in again.stdout

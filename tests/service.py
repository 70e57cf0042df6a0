"""A real captiond in a subprocess, for tests that talk to it over HTTP and kill parts of it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import psutil

T = TypeVar("T")
DATA = Path(__file__).parent / "data"
MODEL = "captiond/scenes"
USUAL = {"CAPTIOND_LOGS__FORMAT": "json", "CAPTIOND_MODEL__BATCH_SIZE": "8"}
PATIENCE = 60.0  # seconds; a test that waits longer for a thing has failed


def wait_for(look: Callable[[], T | None], what: str, *, seconds: float = PATIENCE) -> T:
    """Look until there is something to see; fail if that takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


class Service:
    """A running `captiond serve`; its log stands in a file and is read as it grows."""

    def __init__(self, data: Path, *flags: str, prefix: Sequence[str] = (), **environ: str) -> None:
        self.data = data
        self._entries: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._read = 0  # bytes of the log that `_entries` holds
        self._log = data.with_suffix(f".{time.monotonic_ns()}.log")
        command = [*prefix, sys.executable, "-m", "captiond", "serve", "--port", "0"]
        command += ["--data-dir", str(data)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--model", MODEL, "--log-level", "debug", *flags],
                stderr=log,
                cwd=data.parent,
                env={**os.environ, **USUAL, **environ},
            )
        self.url = wait_for(self._listening, "the port")["url"]
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def _listening(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, self._log.read_text()
        return next(iter(self.logged("listening")), None)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event so far."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                if line.startswith(b"{"):
                    entry = json.loads(line)
                    self._entries[entry["event"]].append(entry)
        return list(self._entries[event])

    @property
    def log_text(self) -> str:
        return self._log.read_text()

    def wait_ready(self) -> Self:
        def ready() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            return self.client.get("/readyz").status_code == 200

        wait_for(ready, "a ready model")
        return self

    def children(self, kind: str) -> list[psutil.Process]:
        """The living child processes of a kind: web or model."""
        pids = {entry["pid"] for entry in self.logged("child_started") if kind in entry["child"]}
        living = psutil.Process(self.process.pid).children()
        return [child for child in living if child.pid in pids]

    def tree(self) -> list[psutil.Process]:
        """Every process of the service."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def task(self, task_id: str) -> dict[str, Any]:
        response = self.client.get(f"/async-batch-caption/status/{task_id}")
        assert response.status_code == 200, response.text
        task: dict[str, Any] = response.json()
        return task

    def finished(self, task_id: str, *, seconds: float = PATIENCE) -> dict[str, Any]:
        """A task once it has ended."""

        def ended() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] not in {"PENDING", "PROCESSING"} else None

        return wait_for(ended, f"the end of {task_id}", seconds=seconds)

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.kill()


@contextmanager
def running(
    data: Path, *flags: str, prefix: Sequence[str] = (), **environ: str
) -> Iterator[Service]:
    """A service whose model is ready; killed at the end if it still runs."""
    service = Service(data, *flags, prefix=prefix, **environ)
    try:
        yield service.wait_ready()
    finally:
        service.close()


def captiond(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A captiond command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "captiond", *arguments],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def upload(name: str) -> tuple[str, bytes]:
    """A file of tests/data as httpx wants it."""
    return name, (DATA / name).read_bytes()


def query(data: Path, sql: str) -> list[Any]:
    """Rows of a service's database."""
    with closing(sqlite3.connect(data / "captiond.db")) as connection:
        return connection.execute(sql).fetchall()


def check_nothing_lost(data: Path, accepted: dict[str, int]) -> None:
    """The oracle of every fault: `accepted` tasks, by their number of images, ended once each.

    The database is whole, it holds these images and no others, all of them have ended, and the
    spool holds the files that ended tasks keep for another try, and no others.
    """
    assert query(data, "PRAGMA integrity_check") == [("ok",)]
    rows = dict(query(data, "SELECT task_id, count(*) FROM images GROUP BY task_id"))
    assert {task: rows.get(task) for task in accepted} == accepted
    ended = "('COMPLETED', 'FAILED', 'CANCELLED')"
    assert query(data, f"SELECT id, status FROM images WHERE status NOT IN {ended}") == []
    assert query(data, f"SELECT id, status FROM tasks WHERE status NOT IN {ended}") == []
    assert query(data, "SELECT id FROM images WHERE result IS NULL") == []
    kept = {name for (name,) in query(data, "SELECT spool FROM tasks WHERE spool IS NOT NULL")}
    assert {path.name for path in (data / "spool").iterdir()} == kept

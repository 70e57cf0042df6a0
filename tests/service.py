"""A real captiond in a subprocess, for tests that talk to it over HTTP and kill parts of it.

Tests wait for conditions, with one generous deadline, and never for a number of seconds: a machine
with other work may take ten times as long. A wait that ends in vain shows the last lines of every
running service's log.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import httpx
import psutil

from tests.migrated import migrated_folder
from tests.patience import PATIENCE
from tests.warmstart import HELD

T = TypeVar("T")
DATA = Path(__file__).parent / "data"
MODEL = "captiond/scenes"
# Several tests run at once on few cores, where threads of one model would wait for each other.
ONE_THREAD = {"CAPTIOND_MODEL__THREADS": "1"}
USUAL = {
    "CAPTIOND_LOGS__FORMAT": "json",
    "CAPTIOND_MODEL__BATCH_SIZE": "8",
    **ONE_THREAD,
    # A replacement that stands by imports torch: two seconds of a core for each service.
    "CAPTIOND_MODEL__STANDBY": "false",
}
WITH_STANDBY = {"CAPTIOND_MODEL__STANDBY": "true"}
FRESH = {"CAPTIOND_CACHE__ENABLED": "false"}  # every image is captioned
PATIENT = {"CAPTIOND_MODEL__SILENCE_SECONDS": "3600"}  # a suspended model process is not replaced
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.05  # seconds between two looks
TWO = ("--workers", "2")
LOG_LINES = 30
# A prefix: the log goes through a pipe, to which a process's limit on files does not apply.
NO_FILE_LIMIT_FOR_LOGS = ("bash", "-c", 'exec "$0" "$@" 2> >(exec cat >&2)')


def wait_for(look: Callable[[], T | None], what: str, *, seconds: float = PATIENCE) -> T:
    """Call `look` until it returns something true, and return that.

    Raises:
        AssertionError: `seconds` have passed; the message shows the last lines of all logs.
    """
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while not (result := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}\n{last_log_lines()}")
        time.sleep(pause)
        pause = min(1.2 * pause, LONGEST_PAUSE)
    return result


def http_client(**options: Any) -> httpx.Client:
    """Return a client for plain HTTP. It reads no certificates, which would take 30 ms."""
    return httpx.Client(**{"timeout": PATIENCE, "verify": False, **options})


class Service:
    """A running `captiond serve`. Its log is a file, which is read as it grows.

    The command of `prefix`, if there is one, starts the service. `command` is that of captiond.
    A new data folder gets a migrated database, unless there is a `prefix`.
    """

    running: ClassVar[list["Service"]] = []

    def __init__(
        self,
        data: Path,
        *flags: str,
        prefix: Sequence[str] = (),
        command: str = "serve",
        **environ: str,
    ) -> None:
        self.data = data
        self._entries: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._read = 0  # bytes of the log that `_entries` holds
        self._log = data.with_suffix(f".{time.monotonic_ns()}.log")
        started = [*prefix, sys.executable, "-m", "captiond", command, "--port", "0"]
        started += ["--data-dir", str(data)]
        if not prefix and "CAPTIOND_DATABASE__URL" not in environ:
            migrated_folder(data)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*started, "--model", MODEL, "--log-level", "debug", *flags],
                stderr=log,
                cwd=data.parent,
                env={**os.environ, **USUAL, **environ},
            )
        self.running.append(self)
        try:
            self.url: str = wait_for(self._listening, "the port")["url"]
        except BaseException:
            self.running.remove(self)
            self.kill()
            raise
        self.client = http_client(base_url=self.url)

    def _listening(self) -> dict[str, Any] | None:
        self._check_alive()
        return next(iter(self.logged("listening")), None)

    def _check_alive(self) -> None:
        assert self.process.poll() is None, f"the service has ended\n{self.log_text}"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log entries of an event so far."""
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

    def wait_for_entries(self, event: str, number: int) -> list[dict[str, Any]]:
        """Wait until the log has so many entries of an event, and return them all."""

        def enough() -> list[dict[str, Any]] | None:
            entries = self.logged(event)
            return entries if len(entries) >= number else None

        return wait_for(enough, f"{number} log entries {event!r}")

    @property
    def log_text(self) -> str:
        return self._log.read_text()

    def wait_ready(self) -> Self:
        """Wait until the service answers that a model is ready."""

        def ready() -> bool:
            self._check_alive()
            return bool(self.logged("model_ready")) and self.client.get("/readyz").is_success

        wait_for(ready, "a ready model")
        return self

    def hold_model(self) -> Self:
        """Stop the model processes before they load, so that accepted images wait.

        It costs nothing, whereas a model process that finds no model imports torch first, again
        and again. The service must have been started with `HELD`: a process that was ready and is
        silent now would be replaced.
        """
        for model in wait_for(lambda: self.children("model"), "a model process"):
            wait_for(partial(bound_to_parent, model), "a model process that ends with its parent")
            model.suspend()
        return self

    @contextmanager
    def suspended_model(self) -> Iterator[None]:
        """Stop the model process while the block runs, so that images wait for it."""
        model = self.child("model")
        model.suspend()
        try:
            yield
        finally:
            with suppress(psutil.NoSuchProcess):
                model.resume()

    def children(self, kind: str) -> list[psutil.Process]:
        """Return the living child processes of a kind: web or model."""
        pids = {entry["pid"] for entry in self.logged("child_started") if kind in entry["child"]}
        living = psutil.Process(self.process.pid).children()
        return [child for child in living if child.pid in pids and not gone([child])]

    def child(self, kind: str) -> psutil.Process:
        """Return the only child process of a kind; wait while one is being started."""
        (child,) = wait_for(lambda: self.children(kind), f"a {kind} process")
        return child

    def tree(self) -> list[psutil.Process]:
        """Return every process of the service."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def task(self, task_id: str) -> dict[str, Any]:
        """Return a task as the status call describes it."""
        response = self.client.get(f"/async-batch-caption/status/{task_id}")
        assert response.status_code == 200, response.text
        task: dict[str, Any] = response.json()
        return task

    def finished(self, task_id: str, *, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until a task has finished, and return it."""

        def finished() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] not in {"PENDING", "PROCESSING"} else None

        return wait_for(finished, f"the end of {task_id}", seconds=seconds)

    @contextmanager
    def caching(self) -> Iterator[None]:
        """Wait at the end of the block until a caption of the block is in the cache.

        It is stored after it was answered.
        """
        captions = "SELECT count(*) FROM captions"
        before = query(self.data, captions)
        yield
        wait_for(lambda: query(self.data, captions) > before, "a caption in the cache")

    def stop(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """Send SIGKILL to the supervisor, and wait for its end."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the service if it still runs."""
        if self in self.running:
            self.running.remove(self)
        self.client.close()
        if self.process.poll() is None:
            self.kill()


@contextmanager
def running(
    data: Path, *flags: str, prefix: Sequence[str] = (), **environ: str
) -> Iterator[Service]:
    """A service whose model is ready; killed at the end if it still runs."""
    with Service(data, *flags, prefix=prefix, **environ) as service:
        yield service.wait_ready()


@contextmanager
def running_without_model(data: Path, *flags: str, **environ: str) -> Iterator[Service]:
    """A service whose model never comes: it accepts tasks, which wait."""
    with Service(data, *flags, **{**HELD, **environ}) as service:
        yield service.hold_model()


def last_log_lines() -> str:
    """Return the end of the log of each running service."""
    logs = [service.log_text.splitlines()[-LOG_LINES:] for service in Service.running]
    return "\n\n".join("\n".join(lines) for lines in logs)


def gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether all of these processes have ended; a zombie has."""
    return not any(is_alive(process) for process in processes)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs or may run again."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes: Sequence[psutil.Process]) -> None:
    """Wait until all of these processes have ended."""
    wait_for(lambda: gone(processes), f"the end of {processes}")


def stopped_without_a_lock(process: psutil.Process, data: Path) -> bool:
    """Stop a process, and return whether others can write the database of `data` meanwhile.

    A process that is stopped within a transaction keeps the lock of SQLite. It is continued then.
    """
    process.suspend()
    wait_for(lambda: process.status() == psutil.STATUS_STOPPED, "a stop")
    with closing(sqlite3.connect(data / "captiond.db", timeout=0)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            process.resume()
            return False
        database.rollback()
    return True


def bound_to_parent(child: psutil.Process) -> bool:
    """Whether a child has asked the kernel to kill it when its parent dies.

    It ignores SIGTERM right afterwards, which is what this function looks for. A child that is
    stopped before it could ask outlives its parent until it is continued.
    """
    try:
        status = Path(f"/proc/{child.pid}/status").read_text()
    except FileNotFoundError:
        return False
    (ignored,) = re.findall(r"^SigIgn:\s*(\w+)$", status, flags=re.MULTILINE)
    return bool(int(ignored, 16) & 1 << (signal.SIGTERM - 1))


def captiond(
    *arguments: str, cwd: Path, prefix: Sequence[str] = (), **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a captiond command to its end. The command of `prefix`, if there is one, starts it.

    Raises:
        subprocess.TimeoutExpired: it takes too long. It was killed, with all its children.
    """
    command = [*prefix, sys.executable, "-m", "captiond", *arguments]
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            output = process.communicate(timeout=2 * PATIENCE)
        except BaseException:
            root = psutil.Process(process.pid)
            for each in [*root.children(recursive=True), root]:
                each.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, *output)


def upload(name: str) -> tuple[str, bytes]:
    """Return a file of tests/data as httpx takes it."""
    return name, (DATA / name).read_bytes()


def query(data: Path, sql: str) -> list[Any]:
    """Return rows of a service's database."""
    with closing(sqlite3.connect(data / "captiond.db")) as connection:
        return connection.execute(sql).fetchall()


def check_nothing_lost(data: Path, accepted: dict[str, int]) -> None:
    """Check what must hold after every fault. `accepted` has the number of images of each task.

    The database passes its own check. It holds exactly these images, and all of them are finished.
    The spool holds exactly the files that finished tasks keep for a retry.
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

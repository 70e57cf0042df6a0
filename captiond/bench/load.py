"""A captiond in its own process, and clients that keep it busy over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from captiond.bench.cases import Case, CaseKind
from captiond.errors import StartupError
from captiond.metrics import MODEL_BUSY, MODEL_IDLE
from captiond.settings.config import DataSettings, Settings
from captiond.settings.sources import ENV_PREFIX

T = TypeVar("T")
START_SECONDS = 300.0  # a large model from a slow disk
STOP_SECONDS = 5.0
REQUEST_SECONDS = 600.0
METRICS_SECONDS = 60.0
CLIENTS = "clients"  # the cause of idle time before the first image of a load has arrived
CLEAR_PEAK = "5"  # proc(5), clear_refs
HEAD = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
TAIL = b"\r\n--edge--\r\n"
HEADERS = {"Content-Type": "multipart/form-data; boundary=edge"}
Metrics = list[dict[str, Any]]  # as `Registry.snapshot` returns them


@dataclass(frozen=True)
class ServiceProcess:
    """A running `captiond serve`, and threads for its clients.

    `starting_bytes` is the peak of the model process's resident memory until it was ready.
    """

    process: subprocess.Popen[bytes]
    metrics_file: Path
    host: str
    port: int
    batch_size: int
    starting_bytes: int
    pool: Executor

    def connect(self) -> HTTPConnection:
        """Return a new connection to the service."""
        return HTTPConnection(self.host, self.port, timeout=REQUEST_SECONDS)

    def peak_bytes(self) -> int:
        """Return the peak of the model process's resident memory since it was ready."""
        return peak(self.process.pid)

    def metrics(self) -> Metrics:
        """Return the service's metrics as they are now.

        Raises:
            StartupError: the service does not write them.
        """
        self.metrics_file.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + METRICS_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                metrics: Metrics = json.loads(self.metrics_file.read_text("utf-8"))
                return metrics
            time.sleep(0.005)
        raise StartupError(f"captiond serve did not write {self.metrics_file}")


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one load. All times are in seconds.

    `seconds` is from the first request to the last answer, `answers` has the time of each answer.
    `busy` is how long the models captioned, and `idle` how long they waited, by cause.
    """

    seconds: float
    answers: list[float]
    busy: float
    idle: dict[str, float]


@contextmanager
def running(config: Path, clients: int) -> Iterator[ServiceProcess]:
    """Run a service with a settings file within the block. It is ready to caption.

    Its data folder and its log are placed beside the file.

    Raises:
        StartupError: the service does not become ready; the message has the end of its log.
    """
    log = config.with_name("service.log")
    metrics_file = Settings(data=DataSettings(dir=data_folder(log))).metrics_file
    # The service ends before the clients' threads, which then wait for nothing more.
    with ThreadPoolExecutor(clients) as pool, started(config, log) as process:
        url = urlsplit(wait_for(lambda: logged(log, "listening", "url"), process, log))
        size = wait_for(lambda: logged(log, "model_ready", "batch_size"), process, log)
        host, port = url.hostname or "", url.port or 0
        wait_for(lambda: is_ready(host, port), process, log)
        starting_bytes = peak(process.pid, clear=True)
        yield ServiceProcess(process, metrics_file, host, port, int(size), starting_bytes, pool)


def data_folder(log: Path) -> Path:
    return log.with_name("data")


@contextmanager
def started(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `captiond serve` within the block. It and its children have exited afterwards."""
    captiond = [sys.executable, "-m", "captiond.bench.bound", str(os.getpid())]
    command = [*captiond, "serve", "--config", str(config)]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [*command, "--port", "0", "--data-dir", str(data_folder(log))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environ,
            process_group=0,  # Ctrl-C reaches this command only, which then stops the service
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a service: with SIGTERM, and after STOP_SECONDS with SIGKILL."""
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:
        process.kill()  # the kernel kills its children too
        process.wait()


def wait_for(find: Callable[[], T | None], process: subprocess.Popen[bytes], log: Path) -> T:
    """Return what `find` returns, as soon as that is not None.

    Raises:
        StartupError: the service has exited, or START_SECONDS have passed.
    """
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if (result := find()) is not None:
            return result
        time.sleep(0.05)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise StartupError(f"captiond serve did not become ready; its log ends with\n{last}")


def logged(log: Path, event: str, key: str) -> str | None:
    """Return the value of `key` in the first log line of an event, or None if there is none."""
    return next((str(entry[key]) for entry in entries(log) if entry["event"] == event), None)


def entries(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log of JSON lines, without a last line that is not complete yet."""
    with log.open("rb") as lines:
        for line in lines:
            if line.startswith(b"{") and line.endswith(b"\n"):
                yield json.loads(line)


def is_ready(host: str, port: int) -> bool | None:
    """Return True if the service can caption, else None."""
    connection = HTTPConnection(host, port, timeout=REQUEST_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return True if connection.getresponse().status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def service_cases(
    service: ServiceProcess, levels: Sequence[int], images: list[bytes], requests: int
) -> Iterator[Case]:
    """Yield a case for each number of clients; each client sends `requests` one by one."""
    for clients in levels:
        bodies = cycle(HEAD + image + TAIL for image in images)
        share = [list(islice(bodies, requests)) for _ in range(clients)]
        yield Case(CaseKind.SERVICE, str(clients), clients * requests, all_at_once(service, share))


def all_at_once(service: ServiceProcess, share: list[list[bytes]]) -> Callable[[], Load]:
    """Return a function that runs one load: each client sends its share of the bodies."""

    def run() -> Load:
        before, begun = service.metrics(), time.perf_counter()
        answers = service.pool.map(lambda bodies: post_each(service, bodies), share)
        times = [one for client in answers for one in client]
        seconds = time.perf_counter() - begun
        return Load(seconds, times, *spent(before, service.metrics(), seconds))

    return run


def spent(before: Metrics, after: Metrics, seconds: float) -> tuple[float, dict[str, float]]:
    """Return for how many seconds the models captioned between two snapshots, and were idle.

    The idle time is given by cause. A process counts its idle time when its next batch begins, so
    its first one includes the time before the load. What exceeds `seconds`, the duration of the
    load, is taken off the wait for clients.
    """
    busy = growth(before, after, MODEL_BUSY.name)
    idle = growth(before, after, MODEL_IDLE.name)
    total = defaultdict[str, float](float)
    for process in {labels["process"] for labels, _ in idle}:
        own = {labels["cause"]: grown for labels, grown in idle if labels["process"] == process}
        worked = sum(grown for labels, grown in busy if labels["process"] == process)
        excess = max(0.0, worked + sum(own.values()) - seconds)
        own[CLIENTS] = max(0.0, own.get(CLIENTS, 0.0) - excess)
        for cause, grown in own.items():
            total[cause] += grown
    return sum(grown for _, grown in busy), dict(total)


Grown = tuple[dict[str, str], float]  # the labels of a series, and by how much it has grown


def growth(before: Metrics, after: Metrics, name: str) -> list[Grown]:
    """Return by how much each series of a counter has grown, without those that have not."""
    old = {key(series): series["value"] for series in named(before, name)}
    grown = [
        (series["labels"], series["value"] - old.get(key(series), 0.0))
        for series in named(after, name)
    ]
    return [(labels, value) for labels, value in grown if value > 0]


def named(metrics: Metrics, name: str) -> Iterable[dict[str, Any]]:
    return (series for series in metrics if series["name"] == name)


def key(series: dict[str, Any]) -> tuple[str, ...]:
    return tuple(series["labels"].values())


def post_each(service: ServiceProcess, bodies: list[bytes]) -> list[float]:
    """Send bodies one by one over one connection. Return the seconds that each answer took."""
    connection = service.connect()
    try:
        return [post(connection, body) for body in bodies]
    finally:
        connection.close()


def post(connection: HTTPConnection, body: bytes) -> float:
    """Have one image captioned. Return the seconds that took.

    Raises:
        StartupError: the service refuses the image.
    """
    begun = time.perf_counter()
    connection.request("POST", "/caption", body, HEADERS)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise StartupError(f"captiond serve answers {response.status}: {answer.decode()}")
    return time.perf_counter() - begun


def tree(root: int) -> list[int]:
    """Return the ids of a process and of all its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        parent = int(proc_status(int(path.name)).get("PPid", "0"))
        children.setdefault(parent, []).append(int(path.name))
    pids = [root]
    for pid in pids:
        pids += children.get(pid, [])
    return pids


def peak(root: int, *, clear: bool = False) -> int:
    """Return the peak of resident memory in bytes, of that process of a tree that has most.

    That is the model process. The peak is VmHWM of proc(5). With `clear`, it is recorded anew from
    now on.
    """
    most = 0
    for pid in tree(root):
        most = max(most, 1024 * int(proc_status(pid).get("VmHWM", "0 kB").split()[0]))
        if clear:
            with suppress(OSError):  # it has exited
                Path(f"/proc/{pid}/clear_refs").write_text(CLEAR_PEAK)
    return most


def proc_status(pid: int) -> dict[str, str]:
    """Return the fields of a process's status in proc(5), none if it has exited."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

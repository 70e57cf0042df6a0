"""A captiond in a process of its own, and clients that keep it busy over HTTP."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
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
from captiond.sources import ENV_PREFIX

T = TypeVar("T")
START_SECONDS = 300.0  # a large model from a slow disk
STOP_SECONDS = 5.0
REQUEST_SECONDS = 600.0
FORGET_PEAK = "5"  # proc(5), clear_refs
HEAD = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
TAIL = b"\r\n--edge--\r\n"
HEADERS = {"Content-Type": "multipart/form-data; boundary=edge"}


@dataclass(frozen=True)
class Service:
    """A running `captiond serve`, and threads for its clients."""

    process: subprocess.Popen[bytes]
    log: Path
    host: str
    port: int
    batch_size: int
    starting_bytes: int  # most that its model process was resident in until it was ready
    pool: Executor

    def connect(self) -> HTTPConnection:
        return HTTPConnection(self.host, self.port, timeout=REQUEST_SECONDS)

    def peak_bytes(self) -> int:
        """The most memory that its model process was resident in since it was ready."""
        return peak(self.process.pid)


@dataclass(frozen=True, slots=True)
class Load:
    """What a load took, in seconds: each answer, and models at work or waiting, by what for."""

    answers: list[float]
    busy: float
    idle: dict[str, float]


@contextmanager
def running(config: Path, clients: int) -> Iterator[Service]:
    """A service with these settings, ready to caption; its data and its log are beside them.

    Raises:
        StartupError: it does not get there; the message has the end of its log.
    """
    log = config.with_name("service.log")
    # The service goes before its clients, who then wait for nothing more.
    with ThreadPoolExecutor(clients) as pool, started(config, log) as process:
        url = urlsplit(wait_for(lambda: logged(log, "listening", "url"), process, log))
        size = wait_for(lambda: logged(log, "model_ready", "batch_size"), process, log)
        host, port = url.hostname or "", url.port or 0
        wait_for(lambda: is_ready(host, port), process, log)
        yield Service(process, log, host, port, int(size), peak(process.pid, forget=True), pool)


@contextmanager
def started(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone, with its children, when the block is left in whatever way."""
    command = [sys.executable, "-m", "captiond", "serve", "--config", str(config)]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [*command, "--port", "0", "--data-dir", str(log.with_name("data"))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environ,
            process_group=0,  # Ctrl-C is for the command, which then ends the service
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:
        process.kill()  # its children die with it
        process.wait()


def wait_for(look: Callable[[], T | None], process: subprocess.Popen[bytes], log: Path) -> T:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.05)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise StartupError(f"captiond serve did not get ready; its log ends with\n{last}")


def logged(log: Path, event: str, what: str) -> str | None:
    """What the log tells of the first such event."""
    return next((str(entry[what]) for entry in entries(log) if entry["event"] == event), None)


def entries(log: Path, begin: int = 0) -> Iterator[dict[str, Any]]:
    """What the log tells from a place on; a line that is not yet whole is left out."""
    with log.open("rb") as lines:
        lines.seek(begin)
        for line in lines:
            if line.startswith(b"{") and line.endswith(b"\n"):
                yield json.loads(line)


def is_ready(host: str, port: int) -> bool | None:
    connection = HTTPConnection(host, port, timeout=REQUEST_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return True if connection.getresponse().status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def service_cases(
    service: Service, levels: Sequence[int], images: list[bytes], requests: int
) -> Iterator[Case]:
    """For each number of clients a case: `requests` of each, one after the other."""
    for clients in levels:
        bodies = cycle(HEAD + image + TAIL for image in images)
        share = [list(islice(bodies, requests)) for _ in range(clients)]
        yield Case(CaseKind.SERVICE, str(clients), clients * requests, all_at_once(service, share))


def all_at_once(service: Service, share: list[list[bytes]]) -> Callable[[], Load]:
    def run() -> Load:
        begin = service.log.stat().st_size
        waits = service.pool.map(lambda bodies: post_each(service, bodies), share)
        answers = [seconds for client in waits for seconds in client]
        return Load(answers, *spent(entries(service.log, begin)))

    return run


def spent(log: Iterator[dict[str, Any]]) -> tuple[float, dict[str, float]]:
    """The seconds that models were at work, and those that they waited, by what for.

    A process's first batch does not count: it had waited for this load to begin.
    """
    busy, idle, seen = 0.0, defaultdict[str, float](float), set[str]()
    for entry in log:
        if entry["event"] != "batch":
            continue
        if entry["process"] in seen:
            busy += entry["seconds"]
            for cause, seconds in entry["idle"].items():
                idle[cause] += seconds
        seen.add(entry["process"])
    return busy, idle


def post_each(service: Service, bodies: list[bytes]) -> list[float]:
    """The seconds that each answer took, over one connection."""
    connection = service.connect()
    try:
        return [post(connection, body) for body in bodies]
    finally:
        connection.close()


def post(connection: HTTPConnection, body: bytes) -> float:
    begun = time.perf_counter()
    connection.request("POST", "/caption", body, HEADERS)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise StartupError(f"captiond serve answers {response.status}: {answer.decode()}")
    return time.perf_counter() - begun


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        parent = int(status(int(path.name)).get("PPid", "0"))
        children.setdefault(parent, []).append(int(path.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def peak(root: int, *, forget: bool = False) -> int:
    """The most bytes that one process of a tree, the model's, was resident in (proc(5)'s VmHWM).

    With `forget`, its record begins anew.
    """
    found = 0
    for pid in tree(root):
        found = max(found, 1024 * int(status(pid).get("VmHWM", "0 kB").split()[0]))
        if forget:
            with suppress(OSError):  # it has ended
                Path(f"/proc/{pid}/clear_refs").write_text(FORGET_PEAK)
    return found


def status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

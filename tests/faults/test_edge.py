"""Clients at the edge of HTTP, and more connections than there are descriptors.

What they leave behind is looked for afterwards: descriptors, processor time, log lines, and a stop
that takes long.
"""

import json
import re
import resource
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.conftest import png
from tests.faults.harness import SOAK, progress, record, rounds
from tests.patience import PATIENCE
from tests.service import (
    NO_FILE_LIMIT_FOR_LOGS,
    Service,
    http_client,
    running_without_model,
    wait_for,
)

HOST = "Host: x\r\n"
FORM = "Content-Type: multipart/form-data; boundary=edge\r\n"
WEBSOCKET = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
H2C = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"
SETTLED = 10.0  # seconds after which nothing of a client may be left
AT_ONCE = 8


def head(start: str, *headers: str) -> bytes:
    return "".join([start, "\r\n", HOST, *headers, "\r\n"]).encode()


def form(field: str, content: bytes) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="a.png"'
    return f"--edge\r\n{disposition}\r\n\r\n".encode() + content + b"\r\n--edge--\r\n"


def upload(path: str, body: bytes) -> bytes:
    return head(f"POST {path} HTTP/1.1", FORM, f"Content-Length: {len(body)}\r\n") + body


def connect(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)


def received(connection: socket.socket) -> bytes:
    """Return all that the service sends until it closes the connection."""
    with connection.makefile("rb") as file:
        return file.read()


# ---------------------------------------------------------------- what each client does


def refused(service: Service, request: bytes, status: bytes) -> None:
    """Send a request that is answered at once; leave without an end of the input."""
    with connect(service) as connection:
        connection.sendall(request)
        assert re.match(rb"HTTP/1\.1 " + status, connection.recv(65536))


def websocket(service: Service) -> None:
    refused(service, head("GET / HTTP/1.1", WEBSOCKET) + b"\x81\x85frames", b"400")


def h2c(service: Service) -> None:
    refused(service, head("GET /version HTTP/1.1", H2C), b"200")


def connect_method(service: Service) -> None:
    refused(service, head("CONNECT x:443 HTTP/1.1") + b"\x16\x03\x01", b"400")


def half_closed(service: Service) -> None:
    """End the input after the request, and read the answer."""
    with connect(service) as connection:
        connection.sendall(upload("/async-batch-caption", form("wrong", b"x")))
        connection.shutdown(socket.SHUT_WR)
        assert received(connection).startswith(b"HTTP/1.1 422")


def half_closed_and_gone(service: Service) -> None:
    """End the input in the middle of a request, and leave."""
    with connect(service) as connection:
        connection.sendall(upload("/async-batch-caption", form("images", png(1)))[:-9])
        connection.shutdown(socket.SHUT_WR)


def pipelined(service: Service) -> None:
    """Send many requests at once, and read a part of the first answer."""
    with connect(service) as connection:
        connection.sendall(head("GET /static/page.js HTTP/1.1") * 50)
        connection.recv(10)


def small_chunks(service: Service) -> None:
    """Send chunks of one byte until the service has enough of them, and leave at once."""
    with connect(service) as connection:
        connection.sendall(head("POST /caption HTTP/1.1", FORM, "Transfer-Encoding: chunked\r\n"))
        try:
            for _ in range(10):
                connection.sendall(b"1\r\na\r\n" * 2000)
        except OSError:
            pass  # the service has closed the connection


def never_read(service: Service) -> None:
    """Ask for more than the buffers hold, and read nothing."""
    with connect(service) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head("GET /static/page.js HTTP/1.1") * 100)


CLIENTS: tuple[Callable[[Service], None], ...] = (
    websocket,
    h2c,
    connect_method,
    half_closed,
    half_closed_and_gone,
    pipelined,
    small_chunks,
    never_read,
)
REQUESTS = {"pipelined": 50, "never_read": 100}  # of one client


@pytest.fixture(scope="module")
def without_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all clients. Its stop is fast, whatever they have left."""
    with running_without_model(tmp_path_factory.mktemp("edge") / "data") as service:
        yield service
        begun = time.monotonic()
        assert service.stop() == 0
        record("a stop after clients at the edge of HTTP", stop_s=seconds_since(begun))
        assert "Traceback" not in service.log_text


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_clients_leave_nothing(without_model: Service, client: Callable[[Service], None]) -> None:
    service, times = without_model, rounds(40, 1000)
    web = service.child("web")

    def attempt(number: int) -> None:
        client(service)
        progress(number + 1, times, client.__name__)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        service.client.get("/livez")
        before, lines, used = (
            descriptors(web),
            len(service.log_text.splitlines()),
            seconds_used(web),
        )
        list(pool.map(attempt, range(times)))
    left = time.monotonic()
    wait_for(lambda: descriptors(web) <= before, "the descriptors to be closed")
    settled = seconds_since(left)
    assert not list((service.data / "spool").iterdir())
    service.client.get("/livez").raise_for_status()
    logged = len(service.log_text.splitlines()) - lines
    assert logged <= times * REQUESTS.get(client.__name__, 1) + 10
    record(
        f"clients: {client.__name__}",
        rounds=times,
        settled_s=settled,
        cpu_ms_each=round(1000 * (seconds_used(web) - used) / times, 1),
        log_lines=logged,
    )
    assert settled <= SETTLED or not SOAK  # a machine with other work may take longer


def descriptors(process: psutil.Process) -> int:
    """Return how many descriptors are open. Those of the database stay open once it is used."""
    folder = Path(f"/proc/{process.pid}/fd")
    return sum("captiond.db" not in target(file) for file in folder.iterdir())


def target(file: Path) -> str:
    try:
        return str(file.readlink())
    except FileNotFoundError:  # it was closed meanwhile
        return "captiond.db"


def seconds_since(begun: float) -> float:
    return round(time.monotonic() - begun, 2)


def seconds_used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def test_a_half_closed_client_gets_its_caption(service: Service) -> None:
    times = rounds(5, 1000)
    for number in range(times):
        with connect(service) as connection:
            connection.sendall(upload("/caption", form("image", png(number % 100))))
            connection.shutdown(socket.SHUT_WR)
            answer = received(connection)
        assert "caption" in json.loads(answer.rpartition(b"\r\n\r\n")[2])
        progress(number + 1, times, "answered")
    record("half-closed clients get their caption", rounds=times)


def closed(process: psutil.Process) -> bool:
    return all(connection.status == psutil.CONN_LISTEN for connection in process.net_connections())


LIMIT, STUCK = 1024, 1100
FEW_DESCRIPTORS = ("bash", "-c", f'ulimit -n {LIMIT}; exec "$0" "$@"', *NO_FILE_LIMIT_FOR_LOGS)


def test_a_service_without_descriptors_goes_on(data: Path) -> None:
    """Stuck uploads take all descriptors. Other clients are served meanwhile, and the log is not
    filled.
    """
    allow_descriptors(STUCK + 200)
    begun_upload = upload("/async-batch-caption", form("images", png(1) + bytes(300_000)))[:200_000]
    served = rounds(20, 300)
    with Service(data, prefix=FEW_DESCRIPTORS) as service, ExitStack() as held:
        service.hold_model()
        before = len(service.log_text.splitlines())
        begun = time.monotonic()
        for _ in range(STUCK):
            connection = held.enter_context(connect(service))
            connection.sendall(begun_upload)
        for _ in range(served):
            with connect(service) as good:
                good.sendall(upload("/async-batch-caption", form("images", png(2))))
                assert good.recv(4096).startswith(b"HTTP/1.1 202")
        seconds = time.monotonic() - begun
        lines = len(service.log_text.splitlines()) - before - served
        assert lines <= max(10, seconds)
        record("descriptors exhausted", rounds=STUCK, served=served, other_lines=lines)
        held.close()
        web = service.child("web")
        wait_for(lambda: closed(web), "the connections to be closed")
        service.client.get("/livez").raise_for_status()
        assert service.stop() == 0
        assert "Traceback" not in service.log_text


HELD = 40  # connections of the attacker; more wait in the kernel's queue


def test_a_process_at_its_limit_of_descriptors_recovers_at_once(without_model: Service) -> None:
    """Each attempt to accept a connection or to open a file fails for minutes, for want of a
    descriptor, while an attacker keeps connecting and sending.
    """
    seconds = rounds(5, 300)
    begun_upload = upload("/async-batch-caption", form("images", png(1) + bytes(300_000)))[:-9]
    service, web = without_model, without_model.child("web")
    with ExitStack() as stack:
        service.client.get("/livez").raise_for_status()
        service.client.close()  # its connection has a descriptor
        service.client = http_client(base_url=service.url)
        held = deque([stack.enter_context(connect(service))])
        limit = web.rlimit(resource.RLIMIT_NOFILE)
        web.rlimit(resource.RLIMIT_NOFILE, (1, limit[1]))
        lines, used, attempts = len(service.log_text.splitlines()), seconds_used(web), 0
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            attempt(held, begun_upload, service)
            attempts += 1
        elapsed = time.monotonic() - begun
        new_lines = len(service.log_text.splitlines()) - lines
        used = seconds_used(web) - used
        assert service.logged("accept_failed")
        assert not service.logged("web_died")
        web.rlimit(resource.RLIMIT_NOFILE, limit)
        freed = time.monotonic()
        service.client.get("/livez").raise_for_status()
        recovered = seconds_since(freed)
        files = {"images": ("a.png", png(2))}
        accepted = service.client.post("/async-batch-caption", files=files)
        assert accepted.status_code == 202
        task = f"/async-batch-caption/{accepted.json()['task_id']}"
        assert service.client.delete(task).status_code == 200
        assert service.child("web").pid == web.pid
        assert new_lines <= max(10, elapsed)
        record(
            "no descriptor left",
            rounds=attempts,
            seconds=round(elapsed),
            log_lines=new_lines,
            cpu_s=round(used, 1),
            recovered_s=recovered,
        )
        for connection in held:
            connection.close()
        service.client.close()
        service.client = http_client(base_url=service.url)
        wait_for(lambda: closed(web), "the connections to be closed")


def attempt(held: deque[socket.socket], begun_upload: bytes, service: Service) -> None:
    """Connect once more in place of the oldest connection, and wait a moment for an answer."""
    if len(held) == HELD:
        held.popleft().close()
    address = urlsplit(service.url)
    # The time is over, or the kernel's queue is full, or the service has closed the connection.
    with suppress(OSError):
        connection = socket.create_connection((address.hostname, address.port), timeout=0.05)
        held.append(connection)
        connection.sendall(begun_upload)
        connection.recv(4096)


def allow_descriptors(number: int) -> None:
    """Raise this process's own limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), max(hard, number)))

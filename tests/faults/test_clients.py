"""Clients that disconnect, send slowly, send too much, or send the same request many times."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import png
from tests.faults.harness import FRESH, new_seed, progress, record, rounds
from tests.patience import PATIENCE
from tests.service import (
    Service,
    check_nothing_lost,
    http_client,
    query,
    running,
    running_without_model,
    wait_for,
    wait_until_gone,
)

MULTIPART = {"Content-Type": "multipart/form-data; boundary=edge"}
LARGE = 3_000_000  # bytes; more than an upload may keep in memory
Started = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def rng() -> random.Random:
    return random.Random(new_seed())


def part(name: str, content: bytes) -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


def request(body: bytes) -> bytes:
    head = (
        "POST /async-batch-caption HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connect(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port))


def test_uploads_are_cut_anywhere(data: Path, rng: random.Random) -> None:
    large = png(2) + bytes(LARGE)  # most cuts come when a part of it is on disk
    body = part("a.png", png(1)) + part("b.png", large) + b"--edge--\r\n"
    whole, times = request(body), rounds(40, 500)
    cuts = [rng.randrange(len(whole)) for _ in range(times)]
    begun = sum(cut > whole.index(b"\r\n\r\n") + 4 for cut in cuts)
    with running_without_model(data) as service:
        for number, cut in enumerate(cuts):
            with connect(service) as connection:
                connection.sendall(whole[:cut])
            progress(number + 1, times, "cut")
        wait_for(lambda: len(service.logged("client_gone")) >= begun, "every cut to be seen")
        wait_for(lambda: not list((data / "spool").iterdir()), "the spool to be empty")
        service.client.get("/livez").raise_for_status()
        assert service.stop() == 0
        assert "Traceback" not in service.log_text
    assert query(data, "SELECT count(*) FROM tasks") == [(0,)]
    record("upload cut at any offset", rounds=times, lost=0, doubled=0)


UPLOAD = request(part("a.png", png(1)) + b"--edge--\r\n")
HEAD_BYTES = UPLOAD.index(b"\r\n\r\n") + 4
CHUNKED = (
    b"POST /async-batch-caption HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
)
PAGES = b"GET /static/page.js HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
# What slow clients send at once, and what they then send piece by piece.
SLOW = (
    (b"", [UPLOAD[place : place + 1] for place in range(HEAD_BYTES)]),
    (UPLOAD[:HEAD_BYTES], [UPLOAD[place : place + 1] for place in range(HEAD_BYTES, len(UPLOAD))]),
    (CHUNKED, [b"1\r\na\r\n"] * 1000),
)
EACH_UNREAD = 25  # one of so many clients does not read
UNREAD = PAGES, [b"G"] * 1000  # the answers are larger than all buffers, and are not read


@contextmanager
def crawling(service: Service, clients: int) -> Iterator[list[int]]:
    """Run clients that send headers, bodies or chunks at a piece a second, or read no answer.

    Yields the numbers of those that the service has disconnected so far.
    """
    connected, stop = threading.Barrier(clients + 1), threading.Event()
    closed: list[int] = []

    def crawl(number: int) -> None:
        slow = SLOW[number % len(SLOW)]
        first, pieces = UNREAD if number % EACH_UNREAD == 0 else slow
        with connect(service) as connection:
            connection.settimeout(1)
            if first is PAGES:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with suppress(TimeoutError):
                connection.sendall(first)
            connected.wait(PATIENCE)
            for piece in pieces:
                if stop.wait(0.5) or is_closed(connection, piece, reads=first is not PAGES):
                    break
            closed.append(number)

    threads = [threading.Thread(target=crawl, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        connected.wait(PATIENCE)
        yield closed
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def is_closed(connection: socket.socket, piece: bytes, *, reads: bool) -> bool:
    """Send a piece. Return whether the service has closed the connection."""
    try:
        connection.sendall(piece)
        return reads and not connection.recv(4096)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_crawling_clients_are_disconnected_and_delay_no_other(data: Path) -> None:
    clients, good = rounds(60, 500), rounds(20, 100)
    with running(data, "--set", "limits.upload_seconds=6", **FRESH) as service:
        before = p99(service, good)
        with crawling(service, clients) as closed:
            during = p99(service, good)
            wait_for(lambda: len(closed) == clients, "the deadlines to close them")
        assert service.stop() == 0
    assert query(data, "SELECT count(*) FROM tasks") == [(0,)]
    record(
        "slow clients",
        rounds=clients,
        p99_before_ms=round(before * 1000),
        p99_during_ms=round(during * 1000),
    )


def p99(service: Service, requests: int) -> float:
    """Return the 99th percentile of a good client's waits, in seconds."""
    waits = []
    for number in range(requests):
        begun = time.monotonic()
        image = ("a.png", png(number))
        assert service.client.post("/caption", files={"image": image}).status_code == 200
        waits.append(time.monotonic() - begun)
    return sorted(waits)[int(requests * 0.99) - 1]


def test_refused_large_uploads_leave_nothing(data: Path) -> None:
    times = rounds(20, 1000)
    with running_without_model(data, "--set", "limits.body_bytes=1000000") as service:
        web = service.child("web")
        body = b"\0" * (15 * 1024 * 1024)

        def refused(_: int) -> int:
            path = f"{service.url}/async-batch-caption"
            with http_client() as client:
                return client.post(path, content=body, headers=MULTIPART).status_code

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(refused, range(8)))  # they open the database, which stays open
            before = web.num_fds()
            assert set(pool.map(refused, range(times))) == {413}
        wait_for(lambda: web.num_fds() <= before, "the descriptors to be closed")
        begun = time.monotonic()
        assert service.stop() == 0
    record("refused large uploads", rounds=times, stop_s=round(time.monotonic() - begun, 2))


def test_the_same_key_at_once_is_one_task(data: Path) -> None:
    with running(data, "--workers", "2") as service, ThreadPoolExecutor(20) as pool:

        def send(_: int) -> tuple[int, str]:
            with http_client() as client:  # of its own: so each process gets some of the requests
                answer = client.post(
                    f"{service.url}/async-batch-caption",
                    files={"images": ("a.png", png(1))},
                    headers={"Idempotency-Key": "once"},
                )
            return answer.status_code, answer.json()["task_id"]

        answers = set(pool.map(send, range(100)))
        assert len(answers) == 1
        ((status, task_id),) = answers
        assert status == 202
        service.finished(task_id)
        assert service.stop() == 0
    check_nothing_lost(data, {task_id: 1})
    assert query(data, "SELECT count(*) FROM tasks") == [(1,)]
    record("the same Idempotency-Key at once", rounds=100, images=1, lost=0, doubled=0)


def test_no_image_of_a_client_that_is_gone_is_captioned(data: Path) -> None:
    with running(data, **FRESH) as service:
        model = service.child("model")
        model.suspend()
        with connect(service) as connection:
            body = part("a.png", png(1)).replace(b'"images"', b'"image"') + b"--edge--\r\n"
            whole = request(body).replace(b"/async-batch-caption", b"/caption")
            connection.sendall(whole)
        wait_for(lambda: service.logged("client_gone"), "the client to be missed")
        model.resume()
        wait_for(lambda: not list((data / "spool").iterdir()), "an empty spool")
        assert service.stop() == 0
        assert "Traceback" not in service.log_text


def begin_upload(service: Service, connection: socket.socket, path: str) -> bytes:
    """Send a large upload except its end, wait until a part is on disk, and return the rest."""
    body = part("a.png", png(1) + bytes(LARGE)) + b"--edge--\r\n"
    if path == "/caption":
        body = body.replace(b'"images"', b'"image"')
    whole = request(body).replace(b"/async-batch-caption", path.encode())
    connection.sendall(whole[:-20])
    wait_for(lambda: list((service.data / "spool").iterdir()), "the upload to begin")
    return whole[-20:]


def test_a_stop_with_a_stuck_upload_keeps_its_deadline(data: Path) -> None:
    flags = ("--set", "server.shutdown_seconds=3")
    with running_without_model(data, *flags) as service, connect(service) as stuck:
        begin_upload(service, stuck, "/async-batch-caption")
        assert service.stop() == 0
        assert any("web" in entry["child"] for entry in service.logged("drain_overdue"))
    with Service(data) as service:
        assert list((data / "spool").iterdir()) == []
        assert service.stop() == 0


def test_an_upload_that_ends_in_a_stop_without_a_model_is_answered(data: Path) -> None:
    with running(data, **FRESH) as service, connect(service) as late:
        rest = begin_upload(service, late, "/caption")
        for model in service.children("model"):
            model.kill()
        service.process.terminate()
        service.wait_for_entries("draining", 1)
        wait_for(lambda: not service.children("model"), "the end of the model processes")
        late.sendall(rest)
        late.settimeout(PATIENCE)
        assert late.recv(4096).startswith(b"HTTP/1.1 503")
        assert service.process.wait(PATIENCE) == 0


@pytest.mark.parametrize(("kind", "started"), [("web", running_without_model), ("model", running)])
def test_a_stop_cuts_short_a_process_that_does_not_react(
    data: Path, kind: str, started: Started
) -> None:
    with started(data, "--set", "server.shutdown_seconds=3") as service:
        deaf = service.child(kind)
        deaf.suspend()
        assert service.stop() == 0
        assert any(kind in entry["child"] for entry in service.logged("drain_overdue"))
        wait_until_gone([deaf])

"""Clients that hang up, crawl, send what nobody wants, or send the same again and again."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import png
from tests.faults.harness import FRESH, new_seed, progress, record, rounds
from tests.service import Service, check_nothing_lost, query, running, wait_for

MULTIPART = {"Content-Type": "multipart/form-data; boundary=edge"}


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
    large = png(2) + b"\0" * 3_000_000  # of which some is on disk by most cuts
    body = part("a.png", png(1)) + part("b.png", large) + b"--edge--\r\n"
    whole, times = request(body), rounds(40, 500)
    cuts = [rng.randrange(len(whole)) for _ in range(times)]
    begun = sum(cut > whole.index(b"\r\n\r\n") + 4 for cut in cuts)
    with running(data) as service:
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


@contextmanager
def crawling(service: Service, clients: int) -> Iterator[None]:
    """So many clients that send their headers, then their body, a byte a second."""
    text = request(part("a.png", png(1)) + b"--edge--\r\n")
    stop = threading.Event()

    def crawl(number: int) -> None:
        sent = 0 if number % 2 else text.index(b"\r\n\r\n") + 4
        with suppress(OSError), connect(service) as connection:
            connection.sendall(text[:sent])
            while not stop.wait(1) and sent < len(text):
                connection.sendall(text[sent : sent + 1])
                sent += 1

    threads = [threading.Thread(target=crawl, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_crawling_clients_are_closed_and_hold_nobody_up(data: Path) -> None:
    clients = rounds(60, 500)
    with running(data, "--set", "limits.upload_seconds=4", **FRESH) as service:
        (web,) = service.children("web")
        before = p99(service)
        connections = len(web.net_connections())
        with crawling(service, clients):
            wait_for(lambda: len(web.net_connections()) > clients / 2, "them to be connected")
            during = p99(service)
            wait_for(
                lambda: len(web.net_connections()) <= connections + 1, "the deadlines to close them"
            )
        assert service.stop() == 0
    assert query(data, "SELECT count(*) FROM tasks") == [(0,)]
    record(
        "slow clients",
        rounds=clients,
        p99_before_ms=round(before * 1000),
        p99_during_ms=round(during * 1000),
    )


def p99(service: Service, requests: int = 100) -> float:
    """The 99th percentile of a good client's waits, in seconds."""
    waits = []
    for number in range(requests):
        begun = time.monotonic()
        image = ("a.png", png(number))
        assert service.client.post("/caption", files={"image": image}).status_code == 200
        waits.append(time.monotonic() - begun)
    return sorted(waits)[int(requests * 0.99) - 1]


def test_refused_large_uploads_leave_nothing(data: Path) -> None:
    times = rounds(20, 1000)
    with running(data, "--set", "limits.body_bytes=1000000") as service:
        (web,) = service.children("web")
        body = b"\0" * (15 * 1024 * 1024)

        def refused(_: int) -> int:
            path = f"{service.url}/async-batch-caption"
            return httpx.post(path, content=body, headers=MULTIPART, timeout=120).status_code

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(refused, range(8)))  # opens what stays open: the database
            before = web.num_fds()
            assert set(pool.map(refused, range(times))) == {413}
        wait_for(lambda: web.num_fds() <= before, "the descriptors to be closed")
        begun = time.monotonic()
        assert service.stop() == 0
    record("refused large uploads", rounds=times, stop_s=round(time.monotonic() - begun, 2))


def test_the_same_key_at_once_is_one_task(data: Path) -> None:
    with running(data, "--workers", "2") as service, ThreadPoolExecutor(20) as pool:

        def send(_: int) -> tuple[int, str]:
            answer = httpx.post(
                f"{service.url}/async-batch-caption",
                files={"images": ("a.png", png(1))},
                headers={"Idempotency-Key": "once"},
                timeout=60,
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


def test_who_goes_takes_his_work_along(data: Path) -> None:
    """A client that hangs up while it waits is not captioned for, nor is one whose time is up."""
    with running(data, **FRESH) as service:
        (model,) = service.children("model")
        model.suspend()
        with connect(service) as connection:
            body = part("a.png", png(1)).replace(b'"images"', b'"image"') + b"--edge--\r\n"
            whole = request(body).replace(b"/async-batch-caption", b"/caption")
            connection.sendall(whole)
        wait_for(lambda: service.logged("client_gone"), "the client to be missed")
        model.resume()
        assert list((data / "spool").iterdir()) == []
        assert service.stop() == 0
        assert "Traceback" not in service.log_text
    with running(data, "--set", "limits.request_seconds=0.001", **FRESH) as service:
        late = service.client.post("/caption", files={"image": ("a.png", png(1))})
        assert (late.status_code, late.json()["code"]) == (504, "request_timeout")


def test_a_stop_with_a_stuck_upload_keeps_its_deadline(data: Path) -> None:
    with running(data, "--set", "server.shutdown_seconds=3") as service, connect(service) as stuck:
        stuck.sendall(request(part("a.png", png(1)) + b"--edge--\r\n")[:-20])
        wait_for(lambda: list((data / "spool").glob("*")) or True, "the upload to begin")
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 10
    with running(data) as service:
        assert list((data / "spool").iterdir()) == []
        assert service.stop() == 0


def test_an_upload_that_ends_in_a_stop_without_a_model_is_answered(data: Path) -> None:
    body = part("a.png", png(1)).replace(b'"images"', b'"image"') + b"--edge--\r\n"
    whole = request(body).replace(b"/async-batch-caption", b"/caption")
    with running(data, **FRESH) as service, connect(service) as late:
        late.sendall(whole[:-20])
        wait_for(lambda: list((data / "spool").glob("*")) or True, "the upload to begin")
        for model in service.children("model"):
            model.kill()
        service.process.terminate()
        wait_for(lambda: not service.children("model"), "the end of the model processes")
        late.sendall(whole[-20:])
        late.settimeout(10)
        assert late.recv(4096).startswith(b"HTTP/1.1 503")
        assert service.process.wait(10) == 0


@pytest.mark.parametrize("kind", ["web", "model"])
def test_a_stop_cuts_short_who_does_not_hear_it(data: Path, kind: str) -> None:
    with running(data, "--set", "server.shutdown_seconds=3") as service:
        (deaf,) = service.children(kind)
        deaf.suspend()
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 10
        assert not deaf.is_running()

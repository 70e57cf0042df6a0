"""Clients that disconnect, send slowly, send too much, or send the same request many times."""

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import png
from tests.faults.harness import SOAK, new_seed, progress, record, rounds
from tests.faults.raw_requests import MULTIPART, part, request
from tests.patience import PATIENCE
from tests.service import (
    FRESH,
    Service,
    http_client,
    query,
    running,
    running_without_model,
    wait_for,
    wait_until_gone,
)

LARGE = 3_000_000  # bytes; more than an upload may keep in memory
MOST_BYTES = 10_000_000  # of a body


@pytest.fixture
def rng() -> random.Random:
    return random.Random(new_seed())


def spooled(service: Service) -> set[Path]:
    """Return the files in the spool of a service."""
    return set((service.data / "spool").iterdir())


def all_have_answered(service: Service) -> bool:
    """Whether each of two web processes has refused a large upload."""
    entries = [entry for entry in service.logged("request") if entry["status"] == 413]
    return len({entry["process"] for entry in entries}) == 2


def connect(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)


@pytest.fixture(scope="module")
def two_webs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two web processes and no model, for clients that leave nothing behind."""
    data = tmp_path_factory.mktemp("two-webs") / "data"
    flags = ("--workers", "2", "--set", f"limits.body_bytes={MOST_BYTES}")
    with running_without_model(data, *flags) as service:
        wait_for(lambda: len(service.children("web")) == 2, "two web processes")
        yield service
        begun = time.monotonic()
        assert service.stop() == 0
        record("a stop after refused and cut uploads", stop_s=round(time.monotonic() - begun, 2))
        assert "Traceback" not in service.log_text


def tasks_of(service: Service) -> set[tuple[str, int]]:
    """Return the tasks of a service, and the number of images of each."""
    return set(query(service.data, "SELECT task_id, count(*) FROM images GROUP BY task_id"))


def test_uploads_are_cut_anywhere(two_webs: Service, rng: random.Random) -> None:
    service, before = two_webs, tasks_of(two_webs)
    large = png(2) + bytes(LARGE)  # most cuts come when a part of it is on disk
    body = part("a.png", png(1)) + part("b.png", large) + b"--edge--\r\n"
    whole, times = request(body), rounds(40, 500)
    cuts = [rng.randrange(len(whole)) for _ in range(times)]
    begun = sum(cut > whole.index(b"\r\n\r\n") + 4 for cut in cuts)
    kept, gone = spooled(service), len(service.logged("client_gone"))
    for number, cut in enumerate(cuts):
        with connect(service) as connection:
            connection.sendall(whole[:cut])
        progress(number + 1, times, "cut")
    service.wait_for_entries("client_gone", gone + begun)
    wait_for(lambda: spooled(service) == kept, "the removal of all uploads")
    service.client.get("/livez").raise_for_status()
    assert tasks_of(service) == before
    record("upload cut at any offset", rounds=times, lost=0, doubled=0)


@contextmanager
def crawling(service: Service, clients: int) -> Iterator["subprocess.Popen[str]"]:
    """Run slow clients in a process of their own; it ends once all are disconnected."""
    port = urlsplit(service.url).port
    command = [sys.executable, "-m", "tests.faults.slow_clients", str(port), str(clients)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "connected\n"
            yield process
        finally:
            process.kill()


def captions(service: Service, number: int) -> list[float]:
    """Return a good client's waits, in seconds, that runs in a process of its own."""
    command = [sys.executable, "-m", "tests.faults.good_client", service.url, str(number)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=PATIENCE)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def percentile(seconds: list[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    return round(1000 * sorted(seconds)[int(share * (len(seconds) - 1))], 1)


def test_crawling_clients_are_disconnected_and_delay_no_other(data: Path) -> None:
    """A soak compares with a baseline of the same run, from before and after the slow clients."""
    clients, good = rounds(60, 500), rounds(20, 300)
    seconds = rounds(6, 30)
    alone: list[float] = []
    with running(data, "--set", f"limits.upload_seconds={seconds}", **FRESH) as service:
        if SOAK:
            captions(service, 10)
            alone += captions(service, good)
        with crawling(service, clients) as slow:
            during = captions(service, good)
            in_time = slow.poll() is None
            assert slow.wait(PATIENCE) == 0, "the deadlines close all"
        if SOAK:
            alone += captions(service, good)
        assert service.stop() == 0
    assert query(data, "SELECT count(*) FROM tasks") == [(0,)]
    if SOAK:
        record_slow_clients(clients, alone, during, all_the_time=in_time)


def record_slow_clients(
    clients: int, alone: list[float], during: list[float], *, all_the_time: bool
) -> None:
    record(
        "slow clients",
        rounds=clients,
        p50_alone_ms=percentile(alone, 0.5),
        p50_during_ms=percentile(during, 0.5),
        p99_alone_ms=percentile(alone, 0.99),
        p99_during_ms=percentile(during, 0.99),
        all_the_time=all_the_time,
    )


def test_refused_large_uploads_leave_nothing(two_webs: Service) -> None:
    service, times, webs = two_webs, rounds(20, 1000), two_webs.children("web")
    body = b"\0" * (15 * 1024 * 1024)

    def refused(_: int) -> int:
        path = f"{service.url}/async-batch-caption"
        with http_client() as client:
            return client.post(path, content=body, headers=MULTIPART).status_code

    def descriptors() -> list[int]:
        return [web.num_fds() for web in webs]

    with ThreadPoolExecutor(4) as pool:
        # They open the database, which stays open.
        wait_for(lambda: pool.submit(refused, 0).result() and all_have_answered(service), "both")
        before = descriptors()
        assert set(pool.map(refused, range(times))) == {413}
    wait_for(
        lambda: all(now <= then for now, then in zip(descriptors(), before, strict=True)),
        "the descriptors to be closed",
    )
    record("refused large uploads", rounds=times)


def test_the_same_key_at_once_is_one_task(two_webs: Service) -> None:
    service, before, kept = two_webs, tasks_of(two_webs), spooled(two_webs)

    def send(_: int) -> tuple[int, str]:
        with http_client() as client:  # of its own: so each process gets some of the requests
            answer = client.post(
                f"{service.url}/async-batch-caption",
                files={"images": ("a.png", png(1))},
                headers={"Idempotency-Key": "once"},
            )
        return answer.status_code, answer.json()["task_id"]

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(send, range(100)))
    assert len(answers) == 1
    ((status, task_id),) = answers
    assert status == 202
    assert tasks_of(service) - before == {(task_id, 1)}
    assert len(spooled(service) - kept) == 1, "the other uploads are removed"
    record("the same Idempotency-Key at once", rounds=100, images=1, lost=0, doubled=0)


def test_no_image_of_a_client_that_is_gone_is_captioned(service: Service) -> None:
    gone = len(service.logged("client_gone"))
    with service.suspended_model():
        with connect(service) as connection:
            body = part("a.png", png(1, 95)).replace(b'"images"', b'"image"') + b"--edge--\r\n"
            whole = request(body).replace(b"/async-batch-caption", b"/caption")
            connection.sendall(whole)
        service.wait_for_entries("client_gone", gone + 1)
    wait_for(lambda: not list((service.data / "spool").iterdir()), "an empty spool")
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
        assert late.recv(4096).startswith(b"HTTP/1.1 503")
        assert service.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("kinds", [("model",), ("web", "model")], ids="-".join)
def test_a_stop_cuts_short_processes_that_do_not_react(data: Path, kinds: tuple[str, ...]) -> None:
    # A model process that is not to answer need not have loaded its model.
    started = running_without_model if "web" in kinds else running
    with started(data, "--set", "server.shutdown_seconds=3") as service:
        deaf = [service.child(kind) for kind in kinds]
        for process in deaf:
            process.suspend()
        assert service.stop() == 0
        overdue = " ".join(entry["child"] for entry in service.logged("drain_overdue"))
        assert all(kind in overdue for kind in kinds)
        wait_until_gone(deaf)

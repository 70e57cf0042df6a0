"""Uploads over the limits, malformed uploads, and uploads that are cut off."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import png
from tests.patience import PATIENCE
from tests.service import Service, running, running_without_model, wait_for
from tests.warmstart import COLD

KIB = 1024
LIMITS = {
    "CAPTIOND_LIMITS__FILE_BYTES": str(256 * KIB),
    "CAPTIOND_LIMITS__BODY_BYTES": str(1024 * KIB),
    "CAPTIOND_LIMITS__FILES": "5",
}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=edge"}
BIG = ("big.png", png(1) + b"\0" * (300 * KIB))
GOOD = ("a.png", png(1))


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("limited") / "data", **LIMITS) as service:
        yield service
        assert service.stop() == 0


@pytest.fixture(autouse=True)
def _nothing_is_left(limited: Service) -> Iterator[None]:
    yield
    spool = limited.data / "spool"
    wait_for(lambda: not list(spool.iterdir()), "an empty spool")
    assert limited.logged("request_failed") == []
    assert "Traceback" not in limited.log_text


def part(name: str, filename: str | None, content: bytes) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def chunked(body: bytes) -> Iterator[bytes]:
    for begin in range(0, len(body), 64 * KIB):
        yield body[begin : begin + 64 * KIB]


def test_one_file_over_its_limit_is_413_with_and_without_a_length(limited: Service) -> None:
    body = part("image", *BIG) + b"--edge--\r\n"
    for content in (body, chunked(body)):
        response = limited.client.post("/caption", content=content, headers=MULTIPART)
        assert response.status_code == 413
        assert response.json()["code"] in {"file_too_large", "body_too_large"}


def test_in_a_batch_only_the_large_file_fails(limited: Service) -> None:
    files = [("images", GOOD), ("images", BIG), ("images", GOOD)]
    results = limited.client.post("/batch-caption", files=files).json()["results"]
    assert [result.get("code") for result in results] == [None, "file_too_large", None]
    task = limited.client.post("/async-batch-caption", files=files).json()["task_id"]
    results = limited.finished(task)["result"]
    assert [result.get("code") for result in results] == [None, "file_too_large", None]


def test_a_body_over_its_limit_is_413_with_and_without_a_length(limited: Service) -> None:
    body = b"".join(part("images", f"{n}.png", BIG[1][: 250 * KIB]) for n in range(5))
    body += b"--edge--\r\n"
    for content in (body, chunked(body)):
        response = limited.client.post("/batch-caption", content=content, headers=MULTIPART)
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "field", "count"), [("/caption", "image", 2), ("/batch-caption", "images", 6)]
)
def test_too_many_files_are_422(limited: Service, path: str, field: str, count: int) -> None:
    response = limited.client.post(path, files=[(field, GOOD)] * count)
    assert (response.status_code, response.json()["code"]) == (422, "too_many_files")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", part("image", *GOOD)),
        ("multipart/form-data; boundary=" + "x" * 300, part("image", *GOOD)),
        ("multipart/form-data; boundary=edge", part("image", *GOOD)),
        ("multipart/form-data; boundary=edge", part("image", *GOOD) + b"--edge"),
        ("multipart/form-data; boundary=edge", b"\0" * 5000),
        ("multipart/form-data; boundary=edge", b"--edge\r\nno header\r\n\r\nx\r\n--edge--\r\n"),
        (
            "multipart/form-data; boundary=edge",
            b"".join(part(f"f{n}", None, b"x") for n in range(1001)) + b"--edge--\r\n",
        ),
        (
            "multipart/form-data; boundary=edge",
            part("prompt", None, b"x" * (20 * KIB)) + b"--edge--\r\n",
        ),
    ],
)
def test_a_malformed_body_is_400(limited: Service, content_type: str, body: bytes) -> None:
    response = limited.client.post("/caption", content=body, headers={"Content-Type": content_type})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")


def test_a_broken_off_upload_leaves_one_line_in_the_log(limited: Service) -> None:
    body = part("images", *GOOD) + part("images", "b.png", BIG[1][: 200 * KIB]) + b"--edge--\r\n"
    before = len(limited.logged("client_gone"))
    offsets = [1, 40, 100, 200, 1000, 70_000, 150_000, len(body) - 5]
    for offset in offsets:
        send_and_hang_up(limited, body, offset)
    wait_for(lambda: len(limited.logged("client_gone")) == before + len(offsets), "the log lines")


def send_and_hang_up(service: Service, body: bytes, offset: int) -> None:
    """Send a task's request up to an offset in its body, and close the connection."""
    address = urlsplit(service.url)
    head = (
        "POST /async-batch-caption HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(head.encode() + body[:offset])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"4"),
        (
            b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            b"200",
        ),
    ],
)
def test_no_client_can_switch_to_http2(limited: Service, sent: bytes, status: bytes) -> None:
    address = urlsplit(limited.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).startswith(b"HTTP/1.1 " + status)
    assert limited.client.get("/version").status_code == 200


def test_large_bodies_that_are_answered_early_leak_nothing(limited: Service) -> None:
    """Hypercorn by itself leaks two tasks and a descriptor for each, and then cannot stop."""
    (web,) = limited.children("web")
    body = b"\0" * (4 * 1024 * KIB)

    def refused(number: int) -> int:
        path = "/nowhere" if number % 2 else "/caption"
        return limited.client.post(path, content=body, headers=MULTIPART).status_code

    limited.client.get("/livez")
    before = web.num_fds()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(refused, range(100))) == {404, 413}
    wait_for(lambda: web.num_fds() <= before + 8, "the connections to be closed")


def test_uploads_stream_to_disk(tmp_path: Path) -> None:
    """The web process stays small while it receives many large uploads at once."""
    with running_without_model(tmp_path / "data", **COLD) as service:
        web = service.child("web")
        content = png(1) + b"\0" * (15 * 1024 * KIB)

        def send(_: int) -> int:
            files = {"images": ("big.png", content)}
            return service.client.post("/async-batch-caption", files=files).status_code

        assert send(0) == 202  # the first upload imports and allocates what stays
        before = web.memory_info().rss
        with ThreadPoolExecutor(50) as pool:
            assert set(pool.map(send, range(50))) == {202}
        most = before + 80 * 1024 * KIB  # of 750 MB; the free parts of the heap vary by 40 MB
        wait_for(lambda: web.memory_info().rss < most, "the memory to be returned")

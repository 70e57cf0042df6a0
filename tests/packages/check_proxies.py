"""captiond behind a real nginx and a real Caddy, with the examples in config/proxy/."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import png
from tests.service import Service, http_client, running_without_model, wait_for

EXAMPLES = Path(__file__).parents[2] / "config" / "proxy"
NAME = "captions.example.com"
LARGEST = 512 * 1024 * 1024
NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""
MakeCommand = Callable[[Path, int, int, bool], list[str]]


def nginx(folder: Path, port: int, service: int, below: bool) -> list[str]:
    """Write a configuration of nginx with the example, and return the command that runs it."""
    text = (EXAMPLES / "nginx.conf").read_text()
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{service}")
    if below:
        text = re.sub(r"    location / \{.*?\}\n", "", text, count=1, flags=re.DOTALL)
        block = re.search(r"    # location /captions/ \{.*?\}\n", text, flags=re.DOTALL)
        assert block is not None
        text = text.replace(block[0], block[0].replace("# ", ""))
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, server=text))
    subprocess.run(["nginx", "-t", "-q", "-c", file], check=True)
    return ["nginx", "-c", str(file)]


def caddy(folder: Path, port: int, service: int, below: bool) -> list[str]:
    """Write a Caddyfile with the example, and return the command that runs it."""
    text = (EXAMPLES / "Caddyfile").read_text()
    # Without TLS: Caddy would ask an authority on the internet for a certificate.
    text = text.replace(f"{NAME} {{", f"http://{NAME}:{port} {{\n\tbind 127.0.0.1")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{service}")
    if below:
        text = re.sub(
            r"(\treverse_proxy .*?\n\t\}\n)",
            r"\thandle /captions/* {\n\1\t}\n",
            text,
            count=1,
            flags=re.DOTALL,
        )
    file = folder / "Caddyfile"
    file.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + text)
    common = ["--config", str(file), "--adapter", "caddyfile"]
    subprocess.run(["caddy", "validate", *common], check=True, capture_output=True)
    return ["caddy", "run", *common]


@dataclass(frozen=True)
class Proxied:
    """A service, a client that reaches it through a proxy, and the proxy's port."""

    service: Service
    client: httpx.Client
    port: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def proxied(
    make_command: MakeCommand, folder: Path, service: Service, *, below: bool = False
) -> Iterator[Proxied]:
    port = free_port()
    command = make_command(folder, port, httpx.URL(service.url).port or 80, below)
    with (folder / "proxy.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    client = http_client(base_url=f"http://127.0.0.1:{port}", headers={"Host": NAME})
    try:
        wait_for(lambda: connects(port), "the proxy")
        yield Proxied(service, client, port)
    finally:
        client.close()
        process.terminate()
        process.wait()


def connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose tasks wait, so that their events do not end."""
    data = tmp_path_factory.mktemp("service") / "data"
    proxies = {"CAPTIOND_SERVER__TRUSTED_PROXIES": "127.0.0.1", "CAPTIOND_SERVER__HOSTS": NAME}
    with running_without_model(data, **proxies) as service:
        yield service


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def behind(request: pytest.FixtureRequest, waiting: Service, tmp_path: Path) -> Iterator[Proxied]:
    with proxied(request.param, tmp_path, waiting) as reached:
        yield reached


def send_task(client: httpx.Client, prefix: str = "") -> httpx.Response:
    files = {"images": ("a.png", png(1))}
    response = client.post(f"{prefix}/async-batch-caption", files=files)
    assert response.status_code == 202, response.text
    return response


def test_the_page_and_a_task_are_reached(behind: Proxied) -> None:
    assert "<html" in behind.client.get("/").text
    location = send_task(behind.client).headers["location"]
    assert behind.client.get(location).json()["status"] == "PENDING"


def test_events_arrive_while_the_task_waits(behind: Proxied) -> None:
    """A proxy that collects answers would send nothing before the end."""
    task = send_task(behind.client).json()["task_id"]
    with behind.client.stream("GET", f"/async-batch-caption/events/{task}") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        first = next(events.iter_lines())
    assert first
    assert behind.service.task(task)["status"] == "PENDING"


def answer_to_head(port: int, length: int) -> str:
    """Return the answer to a request whose body is announced and begins, but does not end."""
    head = (
        f"POST /caption HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + b"x")
        connection.settimeout(60)
        return connection.recv(4096).decode("latin-1")


def test_a_body_of_many_images_reaches_captiond(behind: Proxied) -> None:
    """nginx would refuse more than one megabyte without client_max_body_size."""
    sent = behind.client.post(
        "/caption", content=b"x" * 30_000_000, headers={"Content-Type": "a/b"}
    )
    assert "x-request-id" in sent.headers
    assert "code" in sent.json()


def test_nginx_has_the_limit_of_captiond(waiting: Service, tmp_path: Path) -> None:
    """A body of the largest size is answered by captiond, by its head already."""
    with proxied(nginx, tmp_path, waiting) as reached:
        fits = answer_to_head(reached.port, LARGEST)
        assert "x-request-id" in fits.lower()
        too_large = answer_to_head(reached.port, LARGEST + 1)
        assert too_large.startswith("HTTP/1.1 413 ")
        assert "x-request-id" not in too_large.lower()


@pytest.mark.parametrize("proxy", [nginx, caddy], ids=["nginx", "caddy"])
def test_below_a_path(tmp_path: Path, proxy: MakeCommand) -> None:
    """The page, its files, the address of a task and its events are all below the path."""
    settings = {"CAPTIOND_SERVER__ROOT_PATH": "/captions", "CAPTIOND_SERVER__HOSTS": NAME}
    with (
        running_without_model(tmp_path / "data", **settings) as service,
        proxied(proxy, tmp_path, service, below=True) as reached,
    ):
        page = reached.client.get("/captions/").text
        own = re.findall(r'(?:src|href)="(/[^"]+)"', page)
        assert own
        assert all(reached.client.get(path).is_success for path in own), own
        location = send_task(reached.client, "/captions").headers["location"]
        assert location.startswith("/captions/")
        assert reached.client.get(location).json()["status"] == "PENDING"
        assert "x-request-id" not in reached.client.get("/livez").headers, "only the path"

"""Proxies of the environment, which cannot reach the loopback address of this machine.

Servers there are called without them, by the Python client and by libraries.
"""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import build_opener

import httpx2
import pytest

from captiond.client.transport import DEFAULT_TIMEOUT, base_arguments
from captiond.host.loopback import EXCEPTIONS, LOOPBACK, call_loopback_directly
from captiond.references.addresses import bucket_store
from tests.commands import command

ALL = ",".join(LOOPBACK)


class Echo(BaseHTTPRequestHandler):
    """Answers with the target of the request, which a proxy gets as a whole URL."""

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that is the proxy of the environment as well."""
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield server.server_port
        server.shutdown()
        thread.join()


def target_of(url: str) -> str:
    with httpx2.Client(**base_arguments(url, None, DEFAULT_TIMEOUT)) as http:
        return http.get("/livez").text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_a_service_on_this_machine_is_called_without_a_proxy(port: int, host: str) -> None:
    assert target_of(f"http://{host}:{port}") == "/livez"


@pytest.mark.parametrize("host", ["captiond.example", "127.example", "localhost.example"])
@pytest.mark.usefixtures("port")
def test_another_service_is_called_through_the_proxy(host: str) -> None:
    assert target_of(f"http://{host}:8000") == f"http://{host}:8000/livez"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_libraries_call_this_machine_without_a_proxy(
    port: int, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reads the variables in Rust, the others in Python."""
    storage = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_SKIP_SIGNATURE": "true"}
    changed = {**os.environ, **storage}
    call_loopback_directly(changed)
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    bucket_store.cache_clear()
    here, elsewhere = f"http://{host}:{port}/livez", "http://captiond.example/livez"
    assert bytes(bucket_store("s3://photos").get("a.jpg").bytes()) == b"/photos/a.jpg"
    assert [httpx2.get(url).text for url in (here, elsewhere)] == ["/livez", elsewhere]
    opener = build_opener()
    assert [opener.open(url).read().decode() for url in (here, elsewhere)] == ["/livez", elsewhere]
    bucket_store.cache_clear()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"NO_PROXY": "a"}, {"NO_PROXY": "a"}),
        ({"HTTPS_PROXY": "p"}, dict.fromkeys(EXCEPTIONS, ALL)),
        ({"http_proxy": "p", "NO_PROXY": "a, b"}, dict.fromkeys(EXCEPTIONS, f"a,b,{ALL}")),
        ({"http_proxy": "p", "no_proxy": f"{ALL},a"}, dict.fromkeys(EXCEPTIONS, f"{ALL},a")),
        ({"all_proxy": "p", "no_proxy": "a", "NO_PROXY": "*"}, {"no_proxy": f"a,{ALL}"}),
    ],
)
def test_what_the_variables_except_stays_excepted(
    before: dict[str, str], after: dict[str, str]
) -> None:
    environ = {**before}
    call_loopback_directly(environ)
    assert environ == before | after


def test_commands_except_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    excepted: list[str | None] = []

    def note(*_: object) -> None:
        excepted.append(os.environ.get("no_proxy"))

    monkeypatch.setattr("captiond.cli.tags_command.print_tags", note)
    command("tags", "a cat", cwd=tmp_path, http_proxy="http://127.0.0.1:9")
    assert excepted == [ALL]

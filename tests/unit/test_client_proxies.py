"""The Python client and the proxies of the environment. A proxy cannot reach this machine's own
loopback address, so services there are called without it.
"""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import pytest

from captiond.client.transport import DEFAULT_TIMEOUT, base_arguments


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

"""The health check of the container images: it finds the service, whatever port or proxy is set."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from captiond.healthcheck import check, main
from captiond.settings.config import DataSettings, Settings

PROXY = "http://127.0.0.1:9"  # the discard port: nobody listens


@contextmanager
def answering(status: int, body: bytes = b'{"status":"x"}') -> Iterator[str]:
    """Run a server that answers each request to /readyz with this status. Yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, PROXY)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("CAPTIOND_DATA__DIR", str(tmp_path))
    return tmp_path


def test_a_ready_service_is_healthy_behind_a_proxy(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(200) as url:
        Settings(data=DataSettings(dir=data)).address_file.write_text(f"{url}\n")
        assert main() == 0
    assert capsys.readouterr().out == f"{url}: ready\n"


def test_a_service_that_is_not_ready_is_not_healthy_and_says_why(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(503, b'{"detail":\n"run captiond pull"}') as url:
        (data / "captiond.url").write_text(url)
        assert main() == 1
    assert capsys.readouterr().out == f'{url}: 503: {{"detail": "run captiond pull"}}\n'
    assert str(check(url)).startswith("no answer: ")
    assert main() == 1, "it has stopped since"


def test_a_service_that_never_started_is_not_healthy(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main() == 1
    assert "captiond.url" in capsys.readouterr().out
    monkeypatch.setenv("CAPTIOND_SERVER__PORT", "http")
    assert main() == 1
    assert "CAPTIOND_SERVER__PORT" in capsys.readouterr().out


def test_the_file_of_the_settings_names_the_data_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPTIOND_DATA__DIR")
    (tmp_path / "settings.toml").write_text(f"[data]\ndir = '{data}'")
    monkeypatch.setenv("CAPTIOND_CONFIG", str(tmp_path / "settings.toml"))
    with answering(200) as url:
        (data / "captiond.url").write_text(url)
        assert main() == 0

"""A reverse proxy that serves a service under a path, as web servers do it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from socketserver import BaseRequestHandler, ThreadingTCPServer

from tests.patience import PATIENCE

CHUNK = 1 << 16
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Proxying:
    """What a proxy does with requests for paths that begin with `prefix`.

    It passes the prefix on, or removes it. One that `collects` sends an answer once it has all of
    it, as some proxies do with streams.
    """

    upstream: tuple[str, int]
    prefix: str = ""
    removes: bool = True
    collects: bool = False

    def target(self, path: str) -> str | None:
        """Return the path to ask the service for, or None if it does not serve this one."""
        if path != self.prefix and not path.startswith((f"{self.prefix}/", f"{self.prefix}?")):
            return None
        rest = path.removeprefix(self.prefix) if self.removes else path
        return rest if rest.startswith("/") else f"/{rest}"


class ProxyHandler(BaseRequestHandler):
    """One connection of a client, with one request."""

    server: "ProxyServer"

    def handle(self) -> None:
        head, rest = self._read_head()
        line, _, headers = head.partition(b"\r\n")
        method, _, tail = line.decode("latin-1").partition(" ")
        path, _, version = tail.rpartition(" ")
        target = self.server.proxying.target(path)
        if target is None:
            self.request.sendall(NOT_FOUND)
            return
        sent = f"{method} {target} {version}\r\nConnection: close\r\n".encode("latin-1")
        lines = [each for each in headers.split(b"\r\n") if not each.lower().startswith(b"conn")]
        upstream = self.server.proxying.upstream
        with socket.create_connection(upstream, timeout=PATIENCE) as service:
            service.sendall(sent + b"\r\n".join(lines) + b"\r\n\r\n" + rest)
            threading.Thread(target=pass_on, args=(self.request, service), daemon=True).start()
            self._answer(service)

    def _read_head(self) -> tuple[bytes, bytes]:
        received = b""
        while b"\r\n\r\n" not in received:
            part = self.request.recv(CHUNK)
            if not part:
                raise ConnectionResetError("the client sends no request")
            received += part
        head, _, rest = received.partition(b"\r\n\r\n")
        return head, rest

    def _answer(self, service: socket.socket) -> None:
        collected = []
        while part := service.recv(CHUNK):
            if self.server.proxying.collects:
                collected.append(part)
            else:
                self.request.sendall(part)
        self.request.sendall(b"".join(collected))


class ProxyServer(ThreadingTCPServer):
    """A running proxy."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, proxying: Proxying) -> None:
        self.proxying = proxying
        super().__init__(("127.0.0.1", 0), ProxyHandler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client or the service may leave at any time."""


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one of the two ends. A client that leaves ends the request."""
    with suppress(OSError):
        while part := source.recv(CHUNK):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(
    url: str, prefix: str = "", *, removes: bool = True, collects: bool = False
) -> Iterator[str]:
    """Run a proxy in front of a service, and yield the address of the service behind it."""
    host, _, port = url.removeprefix("http://").partition(":")
    with ProxyServer(Proxying((host, int(port)), prefix, removes, collects)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{prefix}"
        finally:
            server.shutdown()
            thread.join()

"""A wire to a server, which a test can cut, hold and repair, and on which it can answer itself.

The server keeps running, so all that it holds is there again when the wire is repaired.
"""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from tests.patience import PATIENCE

CHUNK = 1 << 16
Rule = Callable[[str, str], str | None]  # from a method and a path to a status line, or None


def pass_all(method: str, path: str) -> None:
    """Let every request reach the server."""


class Wire:
    """A TCP proxy for HTTP/1.1. `rule` says which requests it answers itself, and how.

    `requests` counts the methods of the requests that have come. Each of them has a connection of
    its own, because the answers ask for that.
    """

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        self._server = (address.hostname, address.port)
        self._listener = self._listen(0)
        self._port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self.rule: Rule = pass_all
        self.requests: Counter[str] = Counter()
        self._serve()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def repair(self) -> None:
        """Take connections again, at the same address."""
        self._listener = self._listen(self._port)
        self._serve()

    def _listen(self, port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port), backlog=256)

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            with client, suppress(OSError):
                self._answer(client)
        finally:
            self._open.discard(client)

    def _answer(self, client: socket.socket) -> None:
        """Pass one request on, or answer it."""
        head, body = read_head(client)
        if not head:
            return
        method, path, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        self.requests[method] += 1
        length = content_length(head)
        if status := self.rule(method, path):
            drain(client, length - len(body))
            code = status.partition(" ")[2]
            answer = f"<Error><Code>{code}</Code></Error>".encode()
            lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(answer)}", "Connection: close")
            client.sendall("\r\n".join([*lines, "\r\n"]).encode() + answer)
            return
        with socket.create_connection(self._server, timeout=PATIENCE) as server:
            self._open.add(server)
            server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            copy(client, server, length - len(body))
            while part := server.recv(CHUNK):
                client.sendall(part)
            self._open.discard(server)


def read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a request and what has come of its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(CHUNK)
        if not part:
            return b"", b""
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def copy(source: socket.socket, target: socket.socket, length: int) -> None:
    while length > 0 and (part := source.recv(min(CHUNK, length))):
        target.sendall(part)
        length -= len(part)


def drain(source: socket.socket, length: int) -> None:
    while length > 0 and (part := source.recv(min(CHUNK, length))):
        length -= len(part)


@contextmanager
def wire(endpoint: str) -> Iterator[Wire]:
    """Put a wire before a server while the block runs."""
    made = Wire(endpoint)
    try:
        yield made
    finally:
        with suppress(OSError):
            made.cut()

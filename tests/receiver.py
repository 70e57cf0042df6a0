"""A real receiver of webhooks. A test chooses its answers: good, bad, late, or none."""

import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from tests.service import wait_for

HANG, CLOSE = "hang", "close"
CERTIFICATE = Path(__file__).parent / "data" / "localhost.pem"  # made for these tests


@dataclass(frozen=True)
class Call:
    """One request that has arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> dict[str, Any]:
        """Return the payload.

        Raises:
            WebhookVerificationError: the signature is wrong.
        """
        payload: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return payload


class Receiver:
    """`answers` holds one answer for each of the next calls: a status, HANG or CLOSE.

    Once it is empty, the answer is 204.
    """

    def __init__(self, server: ThreadingHTTPServer, scheme: str) -> None:
        self.calls: list[Call] = []
        self.answers: deque[int | str] = deque()
        self.headers: dict[str, str] = {}
        self.hanging = 0
        self.over = threading.Event()
        self.port: int = server.server_address[1]
        self._scheme = scheme

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def wait_for_calls(self, number: int) -> list[Call]:
        wait_for(lambda: len(self.calls) >= number, f"{number} calls of the webhook")
        return self.calls


@contextmanager
def receiving(*answers: int | str, port: int = 0, tls: bool = False) -> Iterator[Receiver]:
    """A receiver on 127.0.0.1 whose first calls get `answers`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            call = Call(self.path, dict(self.headers.items()), self.rfile.read(length))
            answer = receiver.answers.popleft() if receiver.answers else 204
            receiver.calls.append(call)
            if isinstance(answer, int):
                self.send_response(answer)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()
            elif answer == HANG:
                receiver.hanging += 1
                receiver.over.wait()
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        # The handshake runs in the thread of each call: a client that begins none blocks no other.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    receiver = Receiver(server, "https" if tls else "http")
    receiver.answers.extend(answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()

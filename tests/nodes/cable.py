"""The way from one node to the database server, which a test can cut and repair."""

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK = 1 << 16


class Cable:
    """Passes connections on from one socket of the file system to another one.

    A cable that is `cut` takes bytes and connections and passes nothing on, as a firewall does that
    drops packets. `repair` ends the connections that were open meanwhile, and takes new ones.
    """

    def __init__(self, listener: socket.socket, server: Path) -> None:
        self._listener = listener
        self._server = str(server)
        self._open: set[socket.socket] = set()
        self._whole = threading.Event()
        self._whole.set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Pass nothing on from now on."""
        self._whole.clear()

    def repair(self) -> None:
        """Pass on what new connections send."""
        with self._lock:
            stale, self._open = self._open, set()
        for each in stale:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._whole.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        self._whole.wait()
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._server)
        except OSError:
            client.close()
            return
        with self._lock:
            self._open.add(server)
        back = threading.Thread(target=self._pass_on, args=(server, client), daemon=True)
        back.start()
        self._pass_on(client, server)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(CHUNK):
                self._whole.wait()
                target.sendall(part)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def cable_to(server: Path, port: int) -> Iterator[tuple[Path, Cable]]:
    """Yield a folder with a socket of a database server, as clients expect it, and its cable."""
    with tempfile.TemporaryDirectory(prefix="captiond-cable-") as name:
        folder = Path(name)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / f".s.PGSQL.{port}"))
            listener.listen(64)
            yield folder, Cable(listener, server / f".s.PGSQL.{port}")
            listener.shutdown(socket.SHUT_RDWR)

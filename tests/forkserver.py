"""A fork server for pytest-xdist: test processes are forked from one that has collected all tests.

Otherwise each of them would compile and import all test modules, and torch, transformers and more
with them, which takes up to 20 seconds of a core. A collection of imported modules takes one.

Three processes take part. pytest starts the server (`ForkServer`), which collects the tests once.
For each test process, pytest-xdist starts a client instead of Python. The client passes its own
stdin, stdout and stderr to the server, which forks a process that uses them, and waits for the end
of that process.
"""

import contextlib
import gc
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from tests.patience import PATIENCE
from tests.warmstart import Template, is_command

STREAMS = (0, 1, 2)  # stdin, stdout and stderr
# Test modules compute when they are imported. A process that is forked from one with threads of
# OpenMP would wait for them forever.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class ForkServer:
    """A running server; `python` is the command that starts a test process.

    The server collects the tests of `paths`. It ends with the process that started it.
    """

    def __init__(self, paths: list[str]) -> None:
        self._folder = TemporaryDirectory(prefix="captiond-tests-")
        address = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            number = str(listener.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, "serve", number, *paths],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                env={**os.environ, **ONE_THREAD},
            )
        self.python = shlex.join([sys.executable, "-m", __name__, "ask", address])

    def stop(self) -> None:
        self._process.communicate(timeout=PATIENCE)
        self._folder.cleanup()


def serve(listener: socket.socket, paths: list[str]) -> None:
    """Collect tests; then fork a process for each client, until stdin is closed."""
    collect(paths)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how the processes ended
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    while all(key.fileobj is listener for key, _ in selector.select()):
        client, _ = listener.accept()
        with client:
            if os.fork() == 0:
                selector.close()
                listener.close()
                run_for(client)
                sys.exit()


def collect(paths: list[str]) -> None:
    """Import the test modules as pytest does, and report nothing: the test processes will."""
    import pytest

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main(["--collect-only", "--quiet", "-p", "no:cacheprovider", *paths])
    gc.freeze()


def run_for(client: socket.socket) -> None:
    """Run what `python -c` would run for pytest-xdist, with the streams of a client."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(client, 1, len(STREAMS))
    for stream, received in zip(STREAMS, streams, strict=True):
        os.dup2(received, stream)
        os.close(received)
    Template(is_command).install()
    main = ModuleType("__main__")  # that of the server would be imported by spawned processes
    sys.modules["__main__"], sys.argv = main, ["-c"]
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    exec(eval(sys.stdin.readline()), main.__dict__)


def ask(address: str) -> None:
    """Have a process forked that uses the streams of this one, and wait for its end."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"\0"], STREAMS)
        for stream in STREAMS:
            os.close(stream)
        server.recv(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case ["serve", number, *paths]:
                serve(socket.socket(fileno=int(number)), paths)
            case ["ask", address, *_]:
                ask(address)

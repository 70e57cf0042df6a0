"""`captiond serve`: prepare data folder, database and socket, then run the supervisor."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

import captiond
from captiond.config import ServerSettings, Settings
from captiond.errors import StartupError
from captiond.logs import set_up_logs
from captiond.store.migrate import prepare_database
from captiond.store.sqlite import make_engine
from captiond.supervisor.courier import Courier
from captiond.supervisor.lock import locked, make_folders
from captiond.supervisor.supervisor import Supervisor
from captiond.systemd import Notifier
from captiond.web.schemas import task_status

log = structlog.get_logger()
BACKLOG = 1024
UNREAD_MS = 120_000  # how long a client may leave an answer unread before its connection is closed
RELOAD_SECONDS = 1.0


def serve_forever(settings: Settings, *, reload: bool) -> None:
    """Serve until a signal stops the service. With `reload`, restart when the code changes.

    Raises:
        StartupError: the address, the data folder or the database cannot be used.
    """
    set_up_logs(settings.logs, process="supervisor")
    make_folders(settings.data.dir, settings.spool, settings.model_cache)
    with locked(settings.data.dir), listening(settings.server) as listener:
        host, port = listener.getsockname()[:2]
        log.info("listening", url=f"http://{host}:{port}", data=str(settings.data.dir))
        changed = asyncio.run(serve(settings, listener, reload=reload))
    if changed:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


@contextlib.contextmanager
def listening(server: ServerSettings) -> Iterator[socket.socket]:
    """Yield a listening socket, and close it on leaving.

    Raises:
        StartupError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit this from the listening socket.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        try:
            listener.bind((server.host, server.port))
        except OSError as error:
            raise StartupError(
                f"{server.host}:{server.port}: cannot listen there: {error.strerror}; stop what "
                "uses this port, or choose another with --port"
            ) from error
        listener.listen(BACKLOG)
        yield listener


async def serve(settings: Settings, listener: socket.socket, *, reload: bool) -> bool:
    """Run the supervisor until a signal, or with `reload` until the code changes.

    Returns:
        Whether the code has changed.
    """
    stop, changed = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, make_stopper(stop))
    engine = make_engine(settings.database)
    await prepare_database(engine, settings.database)
    courier = Courier(settings, engine, show=task_status)
    notifier = Notifier(os.environ)
    watching = asyncio.create_task(watch(stop, changed)) if reload else None
    try:
        courier.prepare()
        await Supervisor(settings, listener, engine, notifier, stop, courier).run()
    finally:
        if watching is not None:
            watching.cancel()
        await engine.dispose()
    return changed.is_set()


def make_stopper(stop: asyncio.Event) -> Callable[[], None]:
    """Return a signal handler. The first signal starts the drain, a second one kills the process.

    A kill loses nothing: accepted tasks are on disk, and continue at the next start.
    """

    def on_signal() -> None:
        if stop.is_set():
            os.kill(os.getpid(), signal.SIGKILL)  # the kernel kills the children, too
        stop.set()

    return on_signal


async def watch(stop: asyncio.Event, changed: asyncio.Event) -> None:
    """Wait until a file of the package changes, then set both events."""
    before = modification_times()
    while modification_times() == before:  # noqa: ASYNC110 - a file has no event to wait for
        await asyncio.sleep(RELOAD_SECONDS)
    log.info("code_changed")
    changed.set()
    stop.set()


def modification_times() -> dict[Path, int]:
    package = Path(captiond.__file__).parent
    return {path: path.stat().st_mtime_ns for path in package.rglob("*.py")}

"""`captiond serve`: prepare the data folder, the database and the socket; run the supervisor."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

import captiond
from captiond.authority import local_url
from captiond.cli.serve_lines import ready_announcer, say_stopped
from captiond.errors import StartupError
from captiond.host.systemd import Notifier
from captiond.logs import set_up_logs
from captiond.messages import ModelInfo
from captiond.recording import Recorder
from captiond.settings.config import Settings
from captiond.settings.foreign_variables import without_effect
from captiond.spool import open_objects
from captiond.store import leases
from captiond.store.engine import make_engine
from captiond.store.migrate import prepare_database
from captiond.supervisor.courier import Courier
from captiond.supervisor.datafolder import (
    check_files,
    create_privately,
    home_of,
    make_folders,
    make_model_folder,
    make_private,
    provide_temporary_folder,
)
from captiond.supervisor.keyring import KeyRing
from captiond.supervisor.listening import listening
from captiond.supervisor.lock import locked
from captiond.supervisor.neighbours import check_neighbours, check_role
from captiond.supervisor.payloads import Payloads
from captiond.supervisor.prefixowner import check_prefix
from captiond.supervisor.retention import longest_kept
from captiond.supervisor.steadyclock import SteadyClock
from captiond.supervisor.supervisor import Supervisor
from captiond.tracing import start_tracing
from captiond.web.import_schemas import import_item
from captiond.web.schemas import task_status

log = structlog.get_logger()
RELOAD_SECONDS = 1.0
SAME_CAUSE_SECONDS = 1.0  # between signals that have the same cause


def serve_forever(settings: Settings, *, reload: bool) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP. With `reload`, start anew when the code has changed.

    SIGUSR1 writes the metrics of all processes to `metrics.json` in the data folder.

    Raises:
        StartupError: the port, the data folder or the database cannot be used.
    """
    set_up_logs(settings.logs, process="supervisor")
    check_role(settings)
    create_privately()
    make_folders(settings.data.dir, settings.spool)
    make_model_folder(settings.model_cache)
    with locked(settings.data.dir), listening(settings.server) as listener:
        make_private(settings)
        check_files(settings)
        if temporary := provide_temporary_folder(settings.data.dir):
            log.info("temporary_folder", path=str(temporary))
        if variables := without_effect(os.environ):
            log.warning("variables_without_effect", use_instead=variables)
        changed = asyncio.run(serve(settings, listener, reload=reload))
    if changed:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    say_stopped(settings.logs)


def publish_address(settings: Settings, listener: socket.socket) -> str:
    """Log the URL of the service, write it to a file, and return it.

    Raises:
        StartupError: the file cannot be written.
    """
    address, port = listener.getsockname()[:2]
    url = local_url(address, port)
    write_address(settings.address_file, url)
    log.info("listening", url=url, address=address, data=str(settings.data.dir))
    return url


def write_address(path: Path, url: str) -> None:
    """Write the URL of the service to a file, where other commands find it.

    Raises:
        StartupError: the file cannot be written.
    """
    try:
        path.write_text(f"{url}\n", "ascii")
    except OSError as error:
        raise StartupError(f"{path}: cannot be written: {error.strerror}") from error


async def serve(settings: Settings, listener: socket.socket, *, reload: bool) -> bool:
    """Run the supervisor until a signal, or with `reload` until the code has changed.

    Return whether the code has changed. A signal stops the service as usual as soon as its address
    is known.
    """
    stop = asyncio.Event()
    stopper = make_stopper(stop)
    with contextlib.ExitStack() as stack:
        for number in stop_signals():
            stack.enter_context(on_signal(number, stopper, after=signal.SIG_DFL))
        announce = ready_announcer(publish_address(settings, listener), settings.logs)
        return await serve_until(stop, settings, listener, announce, reload=reload)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop the service. A closed terminal does not if nohup(1) says so."""
    hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if hangup_ignored else [signal.SIGHUP])]


async def serve_until(
    stop: asyncio.Event,
    settings: Settings,
    listener: socket.socket,
    announce: Callable[[ModelInfo], None],
    *,
    reload: bool,
) -> bool:
    """Run the supervisor until `stop` is set, which a change of the code does with `reload`.

    Return whether the code has changed. `announce` is called when the service can caption.
    """
    engine = make_engine(settings.database_address)
    await prepare_database(engine)
    recorder, clock = Recorder(), SteadyClock(engine, longest=longest_kept(settings))
    traces = start_tracing("supervisor", os.environ)
    payloads = Payloads(engine, task_status, import_item)
    courier = Courier(settings, engine, payloads, clock, recorder, traces)
    courier.prepare()
    keyring = KeyRing(settings, engine, os.environ)
    await keyring.prepare()
    node = leases.new_node(socket.gethostname(), home_of(settings.data.dir))
    await check_neighbours(settings, engine, node)
    await check_prefix(open_objects(settings), engine)
    notifier = Notifier(os.environ)
    supervisor = Supervisor(
        settings, listener, engine, node, notifier, courier, keyring, clock, recorder, announce
    )
    try:
        with on_signal(signal.SIGUSR1, supervisor.dump_metrics, after=signal.SIG_IGN):
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(stop_when_code_changes(stop)) if reload else None
                await supervisor.run(stop)
                if watching is not None:
                    watching.cancel()
    finally:
        if traces is not None:
            await asyncio.to_thread(traces.close)
        await engine.dispose()
    return watching is not None and watching.done() and not watching.cancelled()


@contextlib.contextmanager
def on_signal(
    number: signal.Signals, callback: Callable[[], None], *, after: signal.Handlers
) -> Iterator[None]:
    """Call `callback` in the running event loop for each such signal while the block runs.

    `after` is the action afterwards. Handlers of the event loop would leave the default action of
    Python when the loop is closed: a traceback for SIGINT, and the end of the process for SIGUSR1.
    """
    loop = asyncio.get_running_loop()
    signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))
    try:
        yield
    finally:
        signal.signal(number, after)


def make_stopper(
    stop: asyncio.Event,
    *,
    end: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL),
    now: Callable[[], float] = time.monotonic,
) -> Callable[[], None]:
    """Return a signal handler. The first signal begins the drain; a later one ends it at once.

    Nothing that was accepted is lost by that, and the children die with the supervisor. Signals
    that follow the first one immediately have its cause: a Ctrl-C reaches a process from the
    terminal and from the program that has started it, and timeout(1) sends its signal twice.
    """
    begun: float | None = None

    def on_signal() -> None:
        nonlocal begun
        if begun is None:
            begun = now()
            stop.set()
        elif now() - begun >= SAME_CAUSE_SECONDS:
            end()

    return on_signal


async def stop_when_code_changes(stop: asyncio.Event) -> None:
    """Set `stop` and return once a file of the package has changed."""
    before = modification_times()
    while modification_times() == before:  # noqa: ASYNC110 - a file has no event to wait for
        await asyncio.sleep(RELOAD_SECONDS)
    log.info("code_changed")
    stop.set()


def modification_times() -> dict[Path, int]:
    """Return when each file of the package was last written, in nanoseconds."""
    package = Path(captiond.__file__).parent
    times = {}
    for path in package.rglob("*.py"):
        with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
            times[path] = path.stat().st_mtime_ns
    return times

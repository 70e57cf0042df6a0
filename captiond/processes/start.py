"""The start of a child process: it runs one module's `main`, and ends when its parent ends.

A parent names a child's module and never imports it, so the supervisor loads neither torch nor an
HTTP server.
"""

import ctypes
import importlib
import multiprocessing
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from types import ModuleType

from captiond import __version__
from captiond.logs import set_up_logs
from captiond.messages import Message
from captiond.processes.collector import spare_last_collections, without_gc
from captiond.processes.version import check_version
from captiond.settings.config import Settings
from captiond.usage import UsageBoard

PR_SET_PDEATHSIG = 1  # prctl(2)

# CUDA does not work after a fork, and a forked child inherits every descriptor of its parent.
SPAWN: SpawnContext = multiprocessing.get_context("spawn")
# The signals for the supervisor, which drains its children over their channels.
SUPERVISORS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


@dataclass(frozen=True)
class Start:
    """What a child process is started with. It is pickled once, when the child starts.

    `name` is unique: a replacement of this process gets another one. `parent` is the parent's
    process id, and `version` that of its code. `connection` is the child's end of its pipe. A
    `standby` is not needed yet.
    """

    name: str
    parent: int
    settings: Settings
    connection: "Connection[Message, Message]"
    standby: bool = field(default=False, kw_only=True)
    version: str = field(default=__version__, kw_only=True)

    @property
    def role(self) -> str:
        """The name without its random part: the same for this process and its replacements."""
        return self.name.rpartition("-")[0]


@dataclass(frozen=True)
class WebStart(Start):
    """The start of a web process; all of them accept connections from one `listener`.

    `number` is that of its part of `usage`, which they share.
    """

    listener: socket.socket
    usage: UsageBoard
    number: int


@dataclass(frozen=True)
class ModelStart(Start):
    """The start of a model process; `device` is one of `[model] device`.

    Shards of imports are claimed under the name of `owner`; none are if it is empty, or if
    `[node] imports` says so.
    """

    device: str
    owner: str = ""


def run_module(module: str, start: Start) -> None:
    """Run the function `main` of `module`. This is the target of every child process."""
    bind_to_parent(start.parent)
    set_up_logs(start.settings.logs, process=start.name)
    check_version(start.version)
    import_module = import_when_idle if start.standby else import_without_gc
    import_module(module).main(start)
    spare_last_collections()


def import_when_idle(module: str) -> ModuleType:
    """Import a module with processor time that no other process wants.

    A thread imports it at the priority SCHED_IDLE of sched(7), so images that are being captioned
    do not wait for a standby process. The priority ends with the thread. A process that has lowered
    the priority of its main thread could not raise it again without a privilege.

    Some sandboxes know no such priority. The thread then has that of all others.
    """
    with ThreadPoolExecutor(1, "import", initializer=yield_to_others) as thread:
        return thread.submit(import_without_gc, module).result()


def yield_to_others() -> None:
    """Run the calling thread only while no other thread of the machine wants its processor."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def import_without_gc(module: str) -> ModuleType:
    """Import a module with the garbage collector switched off."""
    with without_gc():
        return importlib.import_module(module)


def bind_to_parent(parent: int) -> None:
    """Let this process end with its parent, and only then.

    `SUPERVISORS` are ignored here.

    Raises:
        OSError: the kernel refuses.
    """
    end_with(parent)
    for number in SUPERVISORS:
        signal.signal(number, signal.SIG_IGN)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, in whatever way the parent ends.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # guard: children-die-with-supervisor
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)  # the parent ended before the request, so the kernel sends nothing

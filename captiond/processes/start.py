"""How captiond's child processes begin: by the name of their module, bound to their parent's life.

The parent never imports what a child runs, so the supervisor stays free of torch and of HTTP.
"""

import ctypes
import gc
import importlib
import multiprocessing
import os
import signal
import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from types import ModuleType

from captiond.config import Settings
from captiond.logs import set_up_logs
from captiond.messages import Message

PR_SET_PDEATHSIG = 1  # prctl(2)

# fork and CUDA do not mix, and a forked child inherits every descriptor of its parent.
SPAWN: SpawnContext = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Start:
    """What a child of the supervisor is started with; `name` is unlike any other's, ever."""

    name: str
    parent: int
    settings: Settings
    connection: "Connection[Message, Message]"


@dataclass(frozen=True)
class WebStart(Start):
    listener: socket.socket


@dataclass(frozen=True)
class ModelStart(Start):
    device: str


def run_module(module: str, start: Start) -> None:
    """The whole life of a child: `module`'s function `main`, on `start`."""
    bind_to_parent(start.parent)
    set_up_logs(start.settings.logs, process=start.name)
    imported(module).main(start)


def imported(module: str) -> ModuleType:
    """The module, imported with the garbage collector at rest.

    It would look through everything there is again and again while torch and transformers come,
    which is a fifth of their time, and later in pauses of its own: what is imported stays anyway.
    """
    gc.disable()
    found = importlib.import_module(module)
    gc.freeze()
    gc.enable()
    return found


def bind_to_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent dies, however it dies.

    Signals from a terminal or a service manager are the supervisor's business, which tells its
    children over their channels; here they are ignored.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)  # it died before the kernel was asked to watch it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

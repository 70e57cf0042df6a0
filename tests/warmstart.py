"""Starts of services that are forked from a process that has imported everything already.

A service imports torch, spaCy and more in each of its processes. That takes four seconds of a core,
and the tests start more than a hundred services. Here, a test process has a template: a copy of
itself that waits. If a test starts `python -m captiond`, the template forks the new process. It has
a template of its own for its model and web processes.

All else is as usual. The new process is a child of the process that starts it, not of the template:
the template passes on its own parent (CLONE_PARENT of clone(2)). It has the arguments, variables,
descriptors, signals and folder that it is started with, and has nothing else open. Its main module
is run as Python runs it. With `HELD` among the variables, model processes wait before they load
until they have been stopped and continued: they would be ready sooner than a test can stop them.
With `FAULT_INJECT`, the `sitecustomize` in PYTHONPATH is run as in any process that starts.

These starts are usual ones:
- those of decoders, which have little to import and whose memory is limited;
- those that change what Python reads only once: its flags, and variables other than `HARMLESS`;
- those with `COLD` among their variables, in tests of memory;
- all of them if pytest has no test processes, as in `make soak`.
"""

import _posixsubprocess
import atexit
import ctypes
import fcntl
import os
import pickle
import re
import runpy
import signal
import site
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, Never
from unittest.mock import patch

from captiond.processes import start as child_start

COLD = {"COLD_START": "1"}
HELD = {"HELD_MODEL": "1"}
HARMLESS = (
    b"AWS_",
    b"CAPTIOND_",
    b"GLIBC_TUNABLES=",
    b"GOMP_SPINCOUNT=",
    b"HELD_MODEL=",
    b"OPENBLAS_NUM_THREADS=",
    b"OTEL_",
    b"PYTEST_",
    b"SSL_CERT_FILE=",
)
FAULTS = b"FAULT_INJECT"
INJECTED = (FAULTS + b"=", b"PYTHONPATH=")

SPAWN = "from multiprocessing.spawn import spawn_main; "
STREAMS = (0, 1, 2)  # stdin, stdout and stderr
# Signals that end a service or its tests. A template ignores them: it ends with its owner.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
MOST_BYTES, MOST_DESCRIPTORS = 1 << 17, 64  # of a request

# Of clone(2), prctl(2) and the system's table of calls.
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
SYS_CLONE = {"x86_64": 56, "aarch64": 220}
PR_GET_TID_ADDRESS = 40
STATUS = Path("/proc/self/status")

usual_start: Callable[..., int] = _posixsubprocess.fork_exec
libc = ctypes.PyDLL(None, use_errno=True)  # calls keep the interpreter's lock, as os.fork does
replaced: list[object] = []  # streams; their descriptors are closed with them


class Start(NamedTuple):
    """The arguments of `_posixsubprocess.fork_exec`, in their order."""

    arguments: Sequence[str | bytes]
    executables: Sequence[str | bytes]
    close_others: bool
    kept: Sequence[int]
    folder: str | bytes | None
    variables: Sequence[bytes] | None
    stdin: int
    stdin_end: int
    stdout_end: int
    stdout: int
    stderr_end: int
    stderr: int
    failure_end: int
    failure: int
    restore_signals: bool
    new_session: bool
    group: int
    gid: int | None
    groups: Sequence[int] | None
    uid: int | None
    umask: int
    function: Callable[[], object] | None
    vfork: bool

    @property
    def texts(self) -> list[str]:
        return [os.fsdecode(each) for each in self.arguments]

    @property
    def environment(self) -> dict[bytes, bytes]:
        """The variables of the new process."""
        if self.variables is None:
            return dict(os.environb)
        return dict(each.split(b"=", 1) for each in self.variables)

    @property
    def descriptors(self) -> dict[int, int]:
        """The descriptors of the new process, by their numbers there, as numbers of this one."""
        streams = zip(STREAMS, (self.stdin, self.stdout, self.stderr), strict=True)
        kept = {each: each for each in self.kept if each != self.failure}
        return kept | {stream: stream if given < 0 else given for stream, given in streams}

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing that a template does not do."""
        owners = (self.gid, self.groups, self.uid, self.function)
        special = self.new_session or self.group != -1 or self.umask != -1 or any(owners)
        return self.close_others and not special


@dataclass(frozen=True)
class Request:
    """What a template is asked for. Its descriptors are the folder's and those of `numbers`.

    `ignored` and `blocked` are signals.
    """

    arguments: list[str]
    environment: dict[bytes, bytes]
    numbers: list[int]
    umask: int
    ignored: list[int]
    blocked: list[int]


class Template:
    """A process that others are forked from, which are children of the one that has made it.

    `applies` says, by its arguments, whether a process is forked from it.
    """

    installed: ClassVar["Template | None"] = None

    def __init__(self, applies: Callable[[list[str]], bool]) -> None:
        """Fork the template. This process must have no other thread yet."""
        self.applies = applies
        self._lock = threading.Lock()
        self._environment = dict(os.environb)
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            serve(theirs)
        theirs.close()

    def install(self) -> None:
        """Have `subprocess` and `multiprocessing` start processes by this template."""
        for module, name in ((_posixsubprocess, "fork_exec"), (subprocess, "_fork_exec")):
            setattr(module, name, self.start)
        Template.installed = self

    def start(self, *arguments: Any) -> int:
        """Start a process as `_posixsubprocess.fork_exec` does, and return its id."""
        if len(arguments) == len(Start._fields):  # other versions of Python have others
            start = Start(*arguments)
            if self.applies(start.texts) and start.is_plain and self._knows(start.environment):
                with suppress(OSError):  # the template was killed
                    return self._ask(start)
        return usual_start(*arguments)

    def _knows(self, environment: Mapping[bytes, bytes]) -> bool:
        """Return whether an environment differs from that of the template in harmless ways only."""
        harmless = (*HARMLESS, *(INJECTED if FAULTS in environment else ()))
        changed = environment.items() ^ self._environment.items()
        return all((name + b"=").startswith(harmless) for name, _ in changed)

    def _ask(self, start: Start) -> int:
        request = Request(
            arguments=start.texts,
            environment=start.environment,
            numbers=list(start.descriptors),
            umask=own_umask(),
            ignored=[each for each in SIGNALS if signal.getsignal(each) is signal.SIG_IGN],
            blocked=list(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        )
        folder = os.open(start.folder or ".", os.O_PATH)
        try:
            with self._lock:
                descriptors = [folder, *start.descriptors.values()]
                socket.send_fds(self._connection, [pickle.dumps(request)], descriptors)
                answer = self._connection.recv(MOST_BYTES)
        finally:
            os.close(folder)
        if not answer:
            raise ConnectionResetError("the template has ended")
        return int(answer)


def own_umask() -> int:
    """Return the umask of this process. os.umask would change it meanwhile, for all threads."""
    (umask,) = re.findall(r"^Umask:\s*(\d+)$", STATUS.read_text(), flags=re.MULTILINE)
    return int(umask, 8)


def is_command(arguments: list[str]) -> bool:
    """Return whether these are the arguments of a command of captiond."""
    return arguments[:3] == [sys.executable, "-m", "captiond"]


def is_child(arguments: list[str]) -> bool:
    """Return whether these are the arguments of a child process by multiprocessing."""
    match arguments:
        case [python, *_, "-c", code, "--multiprocessing-fork"]:
            return python == sys.executable and code.startswith(SPAWN)
    return False


@contextmanager
def warm_children() -> Iterator[None]:
    """Have model processes that this process itself starts in the block forked as well."""
    template = Template.installed
    if template is None:
        yield
        return
    with patch.object(template, "applies", lambda each: is_command(each) or is_child(each)):
        yield


# ---------------------------------------------------------------- the template


def serve(connection: socket.socket) -> Never:
    """Fork a process for each request, until the other end of the connection is closed."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    place({**dict.fromkeys(STREAMS, nothing), len(STREAMS): connection.detach()})
    with socket.socket(fileno=len(STREAMS)) as requests:
        while True:
            message, descriptors, _, _ = socket.recv_fds(requests, MOST_BYTES, MOST_DESCRIPTORS)
            if not message:
                os._exit(0)
            if (process := fork_sibling()) == 0:
                requests.detach()
                become(pickle.loads(message), *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            requests.send(str(process).encode())


def fork_sibling() -> int:
    """Fork a process whose parent is that of this one. Return its id; in the process itself, 0.

    This is what os.fork does, with a flag more.

    Raises:
        OSError: the system cannot fork, or not in this way. Starts are usual ones then.
    """
    address = ctypes.c_void_p()
    if libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel cannot tell where its thread's id is")
    flags = CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | signal.SIGCHLD
    last = (address, None) if os.uname().machine == "x86_64" else (None, address)
    call = SYS_CLONE[os.uname().machine]
    ctypes.pythonapi.PyOS_BeforeFork()
    process = int(libc.syscall(ctypes.c_long(call), ctypes.c_long(flags), None, None, *last))
    if process == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if process < 0:
        raise OSError(ctypes.get_errno(), "clone failed")
    return process


def place(descriptors: Mapping[int, int]) -> None:
    """Give descriptors these numbers, and close all others."""
    first = max(descriptors) + 1
    moved = {
        number: fcntl.fcntl(each, fcntl.F_DUPFD, first) for number, each in descriptors.items()
    }
    for number, each in moved.items():
        os.dup2(each, number)
    for low, high in pairwise([-1, *sorted(descriptors), os.sysconf("SC_OPEN_MAX")]):
        if low + 1 < high:  # os.closerange(0, 0) closes all
            os.closerange(low + 1, high)


# ---------------------------------------------------------------- the new process


def become(request: Request, folder: int, *descriptors: int) -> Never:
    """Be the process that was asked for, as if the interpreter had just started."""
    is_faulty = FAULTS in request.environment and FAULTS not in os.environb
    os.fchdir(folder)
    place(dict(zip(request.numbers, descriptors, strict=True)))
    os.umask(request.umask)
    os.environb.clear()
    os.environb.update(request.environment)
    open_streams()
    main = sys.modules["__main__"] = ModuleType("__main__")
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]
    sys.orig_argv = request.arguments
    if is_faulty:
        run_sitecustomize()
    if is_command(request.arguments):
        Template(is_child).install()
        _, option, module, *arguments = request.arguments
        run = partial(runpy._run_module_as_main, module)  # type: ignore[attr-defined]
    else:
        if HELD.items() <= os.environ.items():
            hold_models()
        *_, option, code, last = request.arguments
        arguments = [last]
        run = partial(exec, code, main.__dict__)
    sys.argv = [option, *arguments]
    restore_signals(request.ignored)
    signal.pthread_sigmask(signal.SIG_SETMASK, request.blocked)
    end_after(run)


def run_sitecustomize() -> None:
    """Run the `sitecustomize` of PYTHONPATH, as Python does when it starts."""
    sys.path[:0] = filter(None, os.environ["PYTHONPATH"].split(os.pathsep))
    sys.modules.pop("sitecustomize", None)
    site.execsitecustomize()


def hold_models() -> None:
    """Have this process wait, if it is a model process, until it has been stopped and continued."""
    continued = {signal.SIGCONT}
    run_module, bind_to_parent = child_start.run_module, child_start.bind_to_parent

    def bind_and_wait(parent: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, continued)
        bind_to_parent(parent)
        signal.sigwait(continued)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, continued)

    def run_held(module: str, start: child_start.Start) -> None:
        if isinstance(start, child_start.ModelStart):
            child_start.bind_to_parent = bind_and_wait
        run_module(module, start)

    child_start.run_module = run_held


def open_streams() -> None:
    """Open stdin, stdout and stderr as Python does when it starts."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, f"__{name}__")
        replaced.extend((old, getattr(sys, name)))
        by_line = not old.write_through and (name == "stderr" or os.isatty(number))
        size = 0 if number and old.write_through else -1
        stream = TextIOWrapper(
            open(number, "wb" if number else "rb", size, closefd=False),  # noqa: SIM115
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=by_line,
            write_through=old.write_through,
        )
        stream.mode = "w" if number else "r"  # type: ignore[misc]  # open() sets it as well
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def restore_signals(ignored: Iterable[int]) -> None:
    """Have signals do what they do when Python starts."""
    for number in SIGNALS:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else default)


def end_after(run: Callable[[], object]) -> Never:
    """Run something and end the process, as Python does after its main module."""
    status = 0
    try:
        run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException as error:  # noqa: BLE001 - the interpreter reports any error as well
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)

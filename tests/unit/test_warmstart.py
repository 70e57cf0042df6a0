"""Processes that are forked from a template are like those that have just been started."""

import json
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE
from tests.service import running_without_model

# What a process finds when it begins: as JSON, before it ends with a status of its own.
STATE = """
import json, os, signal, sys, threading
state = {
    "arguments": [sys.argv, sys.orig_argv],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
    "descriptors": sorted(int(each) for each in os.listdir("/proc/self/fd"))[:-1],
    "folder": os.getcwd(),
    "input": sys.stdin.read(),
    "main": [__name__, threading.main_thread() is threading.current_thread()],
    "parent": os.getppid(),
    "signals": {each.name: str(signal.getsignal(each)) for each in signal.valid_signals()
                if isinstance(each, signal.Signals)},
    "streams": [[each.encoding, each.errors, each.line_buffering, each.write_through, each.mode,
                 each.fileno()] for each in (sys.stdin, sys.stdout, sys.stderr)],
    "thread": threading.get_native_id() == os.getpid() == threading.main_thread().native_id,
    "umask": os.umask(0),
    "variables": dict(os.environ),
}
print(json.dumps(state))
print("error", file=sys.stderr)
sys.exit(7)
"""

# A process without threads has the others started, as a test process has before its tests.
STARTER = """
import json, os, signal, subprocess, sys
from tests import warmstart
from tests.patience import PATIENCE
from tests.service import running_without_model

def state():
    os.umask(0o027)
    done = subprocess.run(
        [sys.executable, "-c", sys.argv[1], "--multiprocessing-fork"], input="some text",
        capture_output=True, text=True, cwd="/", env={**os.environ, "CAPTIOND_X": "1"},
        pass_fds=[kept], timeout=PATIENCE,
    )
    return json.loads(done.stdout) | {"error": done.stderr, "status": done.returncode}

kept = os.open("/", os.O_RDONLY)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
usual = state()
template = warmstart.Template(lambda arguments: True)
template.install()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
warm = state()
assert warm.pop("blocked") == [signal.SIGUSR1]
del usual["blocked"]
kill = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)", "last"]
killed = subprocess.run(kill, timeout=PATIENCE)
print(json.dumps([usual, warm, os.getpid(), killed.returncode]))
"""


def test_a_process_of_a_template_is_as_one_that_has_just_started() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTER, STATE],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    usual, warm, starter, killed = json.loads(done.stdout)
    assert warm == usual
    assert usual["parent"] == starter
    assert killed == -9


def test_a_held_model_process_loads_once_it_has_been_stopped_and_continued(data: Path) -> None:
    """In either kind of start: a test process alone has no template."""
    with running_without_model(data) as service:
        assert not service.logged("model_ready")
        service.child("model").resume()
        service.wait_ready()
        assert len(service.logged("child_started")) == 2, "one web process, and one model process"

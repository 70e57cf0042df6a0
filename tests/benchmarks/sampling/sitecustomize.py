"""Count where the main thread of a web process is, each time the process has used a millisecond.

`tests.benchmarks.web_cost` puts this folder into PYTHONPATH, so that Python imports this module at
the start of each process. It does nothing before the module of the HTTP protocol is imported, which
only web processes import. The counts are written to SAMPLES at the end of the process.
"""

import atexit
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS = 0.001  # of processor time
# The first entry that is a part of a frame's file, from the innermost frame outwards, decides.
PARTS = (
    ("/h11/", "h11"),
    ("/hypercorn/", "Hypercorn"),
    ("captiond/web/http1", "Hypercorn"),
    ("/selectors.py", "select"),
    ("/asyncio/selector_events", "sockets"),
    ("captiond/web/connection", "sockets"),
    ("/asyncio/", "asyncio"),
    ("/python_multipart/", "multipart"),
    ("captiond/web/multipart", "multipart"),
    ("captiond/spool", "spool"),
    ("/starlette/", "Starlette"),
    ("/sqlalchemy/", "database"),
    ("captiond/store/", "database"),
    ("captiond/processes/", "messages"),
    ("captiond/web/supervisor_client", "messages"),
    ("/structlog/", "log"),
    ("captiond/logs", "log"),
    ("captiond/", "rest"),  # our handlers, and the libraries that they call
)
counts: Counter[str] = Counter()


def part_of(frame: FrameType | None) -> str:
    """Return the part of the web process that a frame belongs to."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.endswith("captiond/spool.py") and code.co_name == "write":
            return "SHA-256"
        for name, part in PARTS:
            if name in code.co_filename:
                return part
        frame = frame.f_back
    return "rest"


def count(_: int, frame: FrameType | None) -> None:
    counts[part_of(frame)] += 1


class StartWithWeb:
    """Not a finder of modules: it starts the timer when the module of a web process is imported."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "captiond.web.http1":
            signal.signal(signal.SIGPROF, count)
            signal.siginterrupt(signal.SIGPROF, False)
            signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)
            atexit.register(report)


def report() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    Path(os.environ["SAMPLES"]).write_text(json.dumps(counts))


sys.meta_path.insert(0, StartWithWeb)

"""The process of one part: a job on standard input, rows as lines of JSON on standard output.

python -m tools.gpu.part < job.json

A part is a process of its own, so that it can be ended when its time is over, and so that its
memory on the device is gone before the next one starts.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import import_module

from tools.gpu.job import Job
from tools.gpu.rows import Note, Row


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it started is ended as well
    job = Job.from_json(sys.stdin.read())
    run: Callable[[Job], Iterable[Row | Note]] = import_module(f"tools.gpu.parts.{job.part}").run
    for row in run(job):
        print(as_line(row), flush=True)


def as_line(row: Row | Note) -> str:
    """Return the line that `runner.read` understands."""
    kind = "note" if isinstance(row, Note) else "row"
    return json.dumps({kind: asdict(row)})


if __name__ == "__main__":
    main()

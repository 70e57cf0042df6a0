"""Run the parts one after the other, each in a process with a deadline, and keep what they report.

The results are written to a file after each row, so that a run which is killed keeps what it has.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from tools.gpu.job import Job
from tools.gpu.plan import CountsName, Part, allowance
from tools.gpu.rows import ROWS, Outcome, Timing

GRACE_SECONDS = 3.0  # for a part to end by itself
STOP_SECONDS = 8.0  # for one that was told to end, and its service
COMMAND = (sys.executable, "-m", "tools.gpu.part")


@dataclass(slots=True)
class Results:
    """All that is known; `machine` describes where it was measured."""

    path: Path
    machine: dict[str, Any]
    parts: dict[str, Outcome] = field(default_factory=dict)

    def save(self) -> None:
        """Write all of it; the file is whole at any time."""
        parts = {name: asdict(outcome) for name, outcome in self.parts.items()}
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps({"machine": self.machine, "parts": parts}, indent=1))
        draft.replace(self.path)

    @property
    def timings(self) -> list[Timing]:
        """The engine's, if it has run."""
        rows = self.parts["engine"].rows if "engine" in self.parts else []
        return [row for row in rows if isinstance(row, Timing)]


def load(path: Path) -> Results:
    """Read the results of a run.

    Raises:
        FileNotFoundError: there is none.
    """
    values = json.loads(path.read_text())
    parts = {name: outcome(name, fields) for name, fields in values["parts"].items()}
    return Results(path, values["machine"], parts)


def outcome(name: str, fields: dict[str, Any]) -> Outcome:
    return Outcome(**{**fields, "rows": [ROWS[name](**row) for row in fields["rows"]]})


@dataclass(frozen=True, slots=True)
class Run:
    """What a whole run is asked to do; `seconds` for all parts together."""

    device: str
    counts: CountsName
    seconds: float
    stretch: float  # of each part's time
    scratch: Path
    log: Path  # what the parts write to standard error


def run_all(run: Run, parts: Iterable[Part], results: Results, tell: Callable[[str], None]) -> None:
    """Run each part for which there is time."""
    deadline = time.monotonic() + run.seconds
    for part in parts:
        seconds = allowance(part, deadline - time.monotonic(), run.stretch)
        if seconds is None:
            results.parts[part.name] = Outcome("left out: the time is over")
            results.save()
            continue
        tell(f"{part.name}, at most {seconds:.0f} s")
        timings = results.timings
        job = Job(
            part.name, run.device, run.counts, str(run.scratch), seconds, timings, run.stretch
        )
        done = results.parts[part.name] = Outcome()
        run_part(job, done, run.log, results.save)
        tell(f"{part.name}: {done.state} after {done.seconds:.1f} s, {len(done.rows)} rows")


def run_part(job: Job, done: Outcome, log: Path, save: Callable[[], None]) -> None:
    """Run one part to its end or to its deadline, and note in `done` what it reports."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    reading = Thread(target=read, args=(process, job.part, done, save), daemon=True)
    try:
        reading.start()
        feed(process, job)
        process.wait(job.seconds + GRACE_SECONDS)
        done.state = "finished" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        done.state = "out of time"
    except KeyboardInterrupt:
        done.state = "interrupted"
        raise
    finally:
        stop(process)
        reading.join(GRACE_SECONDS)  # a process that it has left behind may hold its pipe
        done.seconds = round(time.monotonic() - job.begun, 1)
        save()


def feed(process: subprocess.Popen[bytes], job: Job) -> None:
    assert process.stdin is not None
    values = asdict(job)
    del values["begun"]
    with process.stdin as stdin:
        stdin.write(json.dumps(values).encode())


def read(
    process: subprocess.Popen[bytes], part: str, done: Outcome, save: Callable[[], None]
) -> None:
    """Take the rows and notes that a part prints until it has ended."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            take(line, part, done)
            save()


def take(line: bytes, part: str, done: Outcome) -> None:
    """Add what a line of a part says; a line that a library has printed is a note."""
    try:
        said = json.loads(line)
        if "row" in said:
            done.rows.append(ROWS[part](**said["row"]))
        else:
            done.notes.append(said["note"]["text"])
    except (ValueError, TypeError, KeyError):
        done.notes.append(line.decode(errors="replace").strip())


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a part if it has not ended: first as a user would, then for good."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

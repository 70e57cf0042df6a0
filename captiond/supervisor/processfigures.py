"""Processor time and memory of the processes of the service, from /proc."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from captiond.metrics import PROCESS_CPU, PROCESS_MEMORY, PROCESSES
from captiond.recording import Recorder, Registry
from captiond.supervisor.roster import ChildKind, Roster

SUPERVISOR, STANDBY, DECODER, OTHER = "supervisor", "standby", "decoder", "other"
PROC = Path("/proc")
# Of the fields of /proc/PID/stat that follow the name, see proc(5).
USER, SYSTEM, STARTED, RESIDENT = 11, 12, 19, 21
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
TRACKER = b"resource_tracker"  # a process that multiprocessing starts beside the first child


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process. `started` tells it apart from a later one with the same id."""

    pid: int
    started: int
    cpu_seconds: float
    resident_bytes: int

    @property
    def key(self) -> tuple[int, int]:
        return self.pid, self.started


class ProcessFigures:
    """Measures all processes, by their kinds."""

    def __init__(self, registry: Registry, recorder: Recorder, roster: Roster) -> None:
        self._registry = registry
        self._recorder = recorder
        self._roster = roster
        self._cpu: dict[tuple[int, int], float] = {}  # of each process when it was last measured
        self._trackers: set[tuple[int, int]] = set()

    def measure(self) -> None:
        """Set the gauges, and add the processor time since the last call."""
        number, memory = Counter[str](), Counter[str]()
        cpu: dict[tuple[int, int], float] = {}
        for kind, sample in self._samples(os.getpid()):
            number[kind] += 1
            memory[kind] += sample.resident_bytes
            cpu[sample.key] = sample.cpu_seconds
            new = sample.cpu_seconds - self._cpu.get(sample.key, 0.0)
            self._recorder.count(PROCESS_CPU, kind, amount=max(0.0, new))
        self._cpu = cpu
        self._trackers &= cpu.keys()
        self._registry.set_all(PROCESSES, {(kind,): count for kind, count in number.items()})
        self._registry.set_all(PROCESS_MEMORY, {(kind,): size for kind, size in memory.items()})

    def _samples(self, supervisor: int) -> Iterator[tuple[str, ProcessSample]]:
        if (own := sample_of(supervisor)) is not None:
            yield SUPERVISOR, own
        kinds = self._roster.kinds()
        for child in children_of(supervisor, known=kinds):
            kind: str = kinds.get(child, STANDBY)
            yield from self._sample(child, kind)
            if kind != ChildKind.WEB:
                for decoder in children_of(child):
                    yield from self._sample(decoder, DECODER)

    def _sample(self, pid: int, kind: str) -> Iterator[tuple[str, ProcessSample]]:
        """Yield a process. It is of another kind if captiond has not started it."""
        sample = sample_of(pid)
        if sample is None:
            return
        if kind in {STANDBY, DECODER} and sample.key not in self._cpu and is_tracker(pid):
            self._trackers.add(sample.key)
        yield OTHER if sample.key in self._trackers else kind, sample


def sample_of(pid: int) -> ProcessSample | None:
    """Return what a process has used so far, or None if it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()  # the name before it may have any characters
    ticks = int(fields[USER]) + int(fields[SYSTEM])
    return ProcessSample(pid, int(fields[STARTED]), ticks / TICKS, int(fields[RESIDENT]) * PAGE)


def children_of(pid: int, known: dict[int, ChildKind] | None = None) -> list[int]:
    """Return the children of a process, or those that are known if the kernel does not list them.

    All of them are started in the main thread.
    """
    try:
        return [int(each) for each in (PROC / f"{pid}/task/{pid}/children").read_bytes().split()]
    except OSError:
        return list(known or {})


def is_tracker(pid: int) -> bool:
    try:
        return TRACKER in (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False

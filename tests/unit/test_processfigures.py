"""Processor time and memory of real processes, by their kinds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from captiond.metrics import PROCESS_CPU, PROCESS_MEMORY, PROCESSES
from captiond.recording import Recorder, Registry
from captiond.supervisor.processfigures import (
    OTHER,
    STANDBY,
    SUPERVISOR,
    ProcessFigures,
    children_of,
    sample_of,
)
from captiond.supervisor.roster import Roster
from tests.service import wait_for

BUSY = "while True: pass"


@contextmanager
def child(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", BUSY, *arguments]) as process:
        try:
            yield process
        finally:
            process.kill()


class Measured:
    """The figures of this process and its children, as those of a supervisor."""

    def __init__(self) -> None:
        self.registry, self._recorder = Registry(), Recorder()
        self._figures = ProcessFigures(self.registry, self._recorder, Roster())
        # What the tests of this process have started before is counted as well.
        self.before = self.number(STANDBY)

    def number(self, kind: str) -> float:
        self._figures.measure()
        self.registry.add(self._recorder.take())
        return self.registry.total.gauges.get((PROCESSES.name, (kind,)), 0)

    def cpu(self, kind: str) -> float:
        return self.registry.total.counts.get((PROCESS_CPU.name, (kind,)), 0)

    def memory(self, kind: str) -> float:
        return self.registry.total.gauges[PROCESS_MEMORY.name, (kind,)]


def test_the_processes_of_a_kind_are_added_up() -> None:
    measured = Measured()
    with child(), child():
        assert measured.number(STANDBY) == measured.before + 2
        assert measured.number(SUPERVISOR) == 1
        own = sample_of(os.getpid())
        assert own is not None
        assert 0.5 * own.resident_bytes < measured.memory(SUPERVISOR) < 2 * own.resident_bytes


def test_the_processor_time_of_a_kind_never_falls() -> None:
    measured = Measured()
    with child():
        begun = measured.cpu(STANDBY)

        def has_worked() -> bool:
            measured.number(STANDBY)
            return measured.cpu(STANDBY) > begun + 0.1

        wait_for(has_worked, "processor time of a child")
        worked = measured.cpu(STANDBY)
    assert measured.number(STANDBY) == measured.before
    assert measured.cpu(STANDBY) >= worked


def test_a_process_that_multiprocessing_starts_is_another_kind() -> None:
    measured = Measured()
    others = measured.number(OTHER)
    with child("resource_tracker"):
        assert measured.number(OTHER) == others + 1
        assert measured.number(STANDBY) == measured.before


def test_a_process_that_is_gone_has_no_figures() -> None:
    with child() as process:
        assert process.pid in children_of(os.getpid())
        assert sample_of(process.pid) is not None
    assert sample_of(process.pid) is None
    assert process.pid not in children_of(os.getpid())

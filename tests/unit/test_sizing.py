"""How the batch size is measured and remembered."""

import errno
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from captiond.captioners import sizing
from captiond.captioners.blip.captioner import Blip
from captiond.captioners.notes import add_notes
from captiond.captioners.sizing import Seconds, best_size
from captiond.captioners.tuning_record import usual_record
from captiond.errors import OutOfMemory
from captiond.jobs import Generation
from captiond.worker.loading import DEFAULT_ON_CPU, batch_size


def machine(*, start: float, each: float, memory: int = 1000, caches: int = 1000) -> Seconds:
    """A batch takes `start` seconds, and `each` seconds for every image.

    `memory` images fit into the memory. Those that do not fit into the caches take twice as long.
    """

    def seconds(size: int) -> float:
        if size > memory:
            raise OutOfMemory("no")
        return start + each * (size + max(0, size - caches))

    return seconds


@pytest.mark.parametrize(
    ("start", "each", "best"),
    [(0.01, 0.01, 64), (0.0, 0.7, 8), (3.0, 0.25, 16), (6.0, 0.1, 1), (60.0, 1.0, 1)],
)
def test_a_batch_grows_while_nobody_waits_too_long(start: float, each: float, best: int) -> None:
    assert best_size(machine(start=start, each=each), most=64) == best


def test_a_batch_does_not_grow_out_of_the_caches() -> None:
    assert best_size(machine(start=0.001, each=0.01, caches=8), most=64) == 8


@pytest.mark.parametrize("disturbed", range(6))
def test_one_disturbance_does_not_matter(disturbed: int) -> None:
    quiet, calls = machine(start=0.01, each=0.01, caches=32), count()

    def seconds(size: int) -> float:
        return quiet(size) * (3 if next(calls) == disturbed else 1)

    assert best_size(seconds, most=64) == 32


def test_a_batch_stays_within_the_memory() -> None:
    assert best_size(machine(start=0.1, each=0.001), most=40) == 32
    assert best_size(machine(start=0.1, each=0.001, memory=9), most=64) == 8
    assert best_size(machine(start=0.1, each=0.001), most=1) == 1


def test_a_missing_folder_is_no_error(tmp_path: Path) -> None:
    add_notes(tmp_path / "missing" / "tuning.json", {"one": 4})


def test_a_file_system_that_became_read_only_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, even the removal of a file that does not exist fails."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    add_notes(tmp_path / "tuning.json", {"one": 4})


def test_a_remembered_size_is_limited_by_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "memory_capacity", lambda _: 4)
    blip: Blip = object.__new__(Blip)
    blip.device = torch.device("cpu")
    for remembered, expected in ((32, 4), (2, 2)):
        record = usual_record("fp32", 1).with_batch_size(remembered)
        assert batch_size(blip, record) == expected


@pytest.mark.parametrize("used", [0.5, 0.95])
def test_a_busy_machine_is_noticed(used: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process then has the processor for a part of the time."""
    blip: Blip = object.__new__(Blip)
    blip.device = torch.device("cpu")
    clocks = {"perf_counter": iter([0.0, 1.0]), "thread_time": iter([0.0, used])}
    readings = {name: times.__next__ for name, times in clocks.items()}
    monkeypatch.setattr(sizing, "time", SimpleNamespace(**readings))
    monkeypatch.setattr(sizing, "memory_capacity", lambda _: 1)
    monkeypatch.setattr(sizing, "timer", lambda *_: lambda _: 1.0)
    measured = sizing.measured_size(blip, Generation())
    assert measured == sizing.MeasuredSize(1, quiet=used == 0.95)
    record = usual_record("fp32", 1).with_batch_size(1, quiet=used == 0.95)
    assert record.settled == (used == 0.95)


def test_a_size_of_a_busy_machine_is_at_least_the_usual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sizing, "memory_capacity", lambda _: 100)
    blip: Blip = object.__new__(Blip)
    blip.device = torch.device("cpu")
    for quiet, expected in ((True, 1), (False, DEFAULT_ON_CPU)):
        record = replace(usual_record("fp32", 1), batch_size=1, quiet=quiet)
        assert batch_size(blip, record) == expected

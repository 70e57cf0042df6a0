"""How ways are chosen by measuring, with a machine whose times are known."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from captiond.captioners.choices import Choices, default_choices
from captiond.captioners.families import probe_of
from captiond.captioners.files import EMBEDDED
from captiond.captioners.protocol import Placement, Run
from captiond.captioners.tuning import LIMIT_SECONDS, Clock, Tuner, Tuning, fastest
from captiond.captioners.tuning_record import (
    MOST_TRIES,
    TuningRecord,
    read_record,
    usual_record,
    write_record,
)
from captiond.settings.config import Precision

CPU = torch.device("cpu")
THREADS = torch.get_num_threads()


@dataclass
class Machine:
    """A probe and its clock. `seconds` gives the time of an image by what is chosen.

    `busy` is the part of the processor time that another process takes. `slow` are the numbers of
    the runs that take ten times as long. `wrong` says for which choices the result is wrong.
    """

    seconds: Callable[[Precision, Choices], float]
    busy: float = 0.0
    slow: frozenset[int] = frozenset()
    wrong: Callable[[Choices], bool] = lambda _: False
    now: float = 0.0
    runs: int = field(default=0, init=False)
    patches: int = 577
    vision_layers: int = 12
    text_layers: int = 12

    def encode(self, precision: Precision, choices: Choices, images: int) -> Run:
        return self._run(images * self.seconds(precision, choices), choices)

    def decode(self, precision: Precision, choices: Choices, images: int, tokens: int) -> Run:
        return self._run((images + 8) / 16 * self.seconds(precision, choices), choices)

    def release(self) -> None:
        pass

    def _run(self, seconds: float, choices: Choices) -> Run:
        def run() -> Tensor:
            self.runs += 1
            self.now += 10 * seconds if self.runs in self.slow else seconds
            return torch.full((2,), 2.0 if self.wrong(choices) else 1.0)

        return run

    def tune(self, *precisions: Precision) -> Tuning:
        clock = Clock(lambda: self.now, lambda: self.now * THREADS * (1 - self.busy))
        return Tuner(self, clock=clock).tune(precisions or ("fp32",), (THREADS,))


def intel(precision: Precision, choices: Choices) -> float:
    """MKL is faster, as are two images at a time with oneDNN, and the fused kernels."""
    seconds = 0.010
    seconds -= 0.002 * (choices.image_linear == "mkl") + 0.001 * (choices.text_linear == "mkl")
    seconds -= 0.001 * (choices.attention == "fused") + 0.002 * (choices.cross == "fused")
    return seconds - 0.001 * (choices.rows == 1200 and choices.image_linear == "onednn")


def amd(precision: Precision, choices: Choices) -> float:
    """oneDNN is faster, one image at a time."""
    slower = [choices.image_linear, choices.text_linear].count("mkl")
    return 0.010 + 0.010 * slower + 0.001 * (choices != default_choices(precision))


def test_each_machine_gets_its_fastest_ways() -> None:
    assert Machine(intel).tune().choices == Choices("mkl", "mkl", "fused", "fused", 640)
    assert Machine(amd).tune().choices == Choices()


def test_a_way_whose_result_differs_is_not_chosen() -> None:
    machine = Machine(intel, wrong=lambda choices: choices.cross == "fused")
    assert machine.tune().choices.cross == "packed"


def test_a_small_gain_is_not_worth_another_way() -> None:
    assert fastest({"usual": 1.0, "other": 0.99}) == "usual"
    assert fastest({"usual": 1.0, "other": 0.9, "third": 0.95}) == "other"


@pytest.mark.parametrize(("gain", "chosen"), [(0.5, "bf16"), (0.95, "fp32"), (2.0, "fp32")])
def test_another_precision_must_be_clearly_faster(gain: float, chosen: Precision) -> None:
    def seconds(precision: Precision, _: Choices) -> float:
        return 0.01 * gain if precision == "bf16" else 0.01

    assert Machine(seconds).tune("fp32", "bf16").precision == chosen


def test_a_single_slow_run_changes_nothing() -> None:
    for number in range(1, 60):
        tuning = Machine(intel, slow=frozenset({number})).tune()
        assert tuning.choices == Machine(intel).tune().choices


def test_a_busy_machine_is_noticed() -> None:
    assert Machine(intel).tune().quiet
    assert not Machine(intel, busy=0.5).tune().quiet
    now_and_then = frozenset(number for number in range(400) if number // 7 % 2)
    assert not Machine(intel, slow=now_and_then).tune().quiet


def test_a_slow_machine_does_not_delay_the_start_for_long() -> None:
    machine = Machine(lambda *_: LIMIT_SECONDS)
    tuning = machine.tune()
    assert tuning.choices == Choices()
    assert not tuning.quiet


def test_the_batch_size_follows_from_the_time_of_a_layer() -> None:
    """A batch of 16 takes 4.1 s here, one of 32 too long for an interactive image to wait."""
    assert Machine(lambda *_: 0.015).tune().batch_size == 32
    assert Machine(lambda *_: 0.03).tune().batch_size == 16


def test_there_is_nothing_to_choose_for_the_small_model() -> None:
    assert probe_of(EMBEDDED["captiond/scenes"], Placement(CPU, "fp32")) is None


# ---------------------------------------------------------------- records


@pytest.fixture
def record() -> TuningRecord:
    return TuningRecord("fp32", Choices("mkl"), 2, batch_size=8, tries=1)


def test_a_record_is_kept_under_its_key(tmp_path: Path, record: TuningRecord) -> None:
    path = tmp_path / "tuning.json"
    assert read_record(path, "one") is None
    write_record(path, "one", record)
    write_record(path, "two", replace(record, threads=1))
    assert read_record(path, "one") == record
    assert read_record(path, "three") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", '{"one": 8}', '{"one": {"threads": 2}}'])
def test_a_damaged_record_counts_as_missing(
    tmp_path: Path, text: str, record: TuningRecord
) -> None:
    path = tmp_path / "tuning.json"
    path.write_text(text)
    assert read_record(path, "one") is None
    write_record(path, "one", record)
    assert read_record(path, "one") == record


def test_a_way_that_is_unknown_makes_a_record_unusable(
    tmp_path: Path, record: TuningRecord
) -> None:
    path = tmp_path / "tuning.json"
    write_record(path, "one", record)
    path.write_text(path.read_text().replace("mkl", "later"))
    assert read_record(path, "one") is None


def test_a_measurement_of_a_busy_machine_is_repeated_a_few_times(record: TuningRecord) -> None:
    assert not usual_record("fp32", 2).settled
    assert record.settled
    assert not replace(record, quiet=False).settled
    assert replace(record, quiet=False, tries=MOST_TRIES).settled

"""Figures that `captiond bench` makes of its samples."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from captiond.bench.cases import Case, CaseKind, Sample, Samples, measure
from captiond.bench.engines import equal_part
from captiond.bench.floor import BatchWork
from captiond.bench.load import Load, logged, spent
from captiond.bench.report import Best, Figures, PrecisionFloor, figures, suggested
from captiond.bench.run import measured as measured_settings
from captiond.captioners.arithmetic import Arithmetic, CrossAttentionCost
from captiond.captioners.files import ModelFiles
from captiond.cli.bench_command import as_toml
from captiond.errors import OutOfMemory
from captiond.metrics import MODEL_BUSY, MODEL_IDLE
from captiond.recording import Recorder, Registry
from captiond.settings.config import Precision, Settings
from captiond.settings.sources import load_settings
from tests.service import wait_for, wait_until_gone

LOAD = Load(2.0, [0.1, 0.2, 0.4, 0.3], 0.6, {"clients": 0.1, "decoding": 0.3})
MODEL = Arithmetic(vision=100, token=0, weights=0, cross=(CrossAttentionCost(0, 0, 0, 0),))


def samples(
    kind: CaseKind,
    name: str,
    amount: float,
    *seconds: float,
    result: object = None,
    precision: Precision | None = None,
) -> Samples:
    case = Case(kind, name, amount, lambda: None, precision)
    return [(case, [Sample(took, result) for took in seconds])]


def measured(*engine: tuple[int, float]) -> Figures:
    """Figures for batches of these sizes that took so many seconds."""
    found = [
        *samples(CaseKind.PRODUCT, "linear", 1000, 2, 1, 4, precision="fp32"),
        *samples(CaseKind.PRODUCT, "packed linear", 1000, 1, 0.5, precision="fp32"),
        *samples(CaseKind.PRODUCT, "8-bit linear", 1000, 0.2, precision="int8"),
        *samples(CaseKind.MEMORY, "copy", 1000, 1),
        *samples(CaseKind.DECODE, "a JPEG", 1, 0.1, 0.3, 0.2),
        *samples(CaseKind.SERVICE, "2", 4, 1, 2, 3, result=LOAD),
    ]
    for size, seconds in engine:
        found += samples(CaseKind.GENERATE, str(size), size, 2 * seconds)
        found += samples(CaseKind.CAPTIOND, str(size), size, seconds)
    works = {size: BatchWork(size, 0, 0) for size, _ in engine}
    return figures(found, works, dict.fromkeys(works, 1.0), MODEL, "fp32")


def test_rates_are_the_best_and_times_the_medians() -> None:
    found = measured((4, 8.0))
    assert found.product == Best("packed linear", 2000)
    assert found.decode == 0.2
    assert found.floors["int8"] == PrecisionFloor(Best("8-bit linear", 5000), {4: 0.02})
    assert found.floors["fp32"].seconds == {4: 0.05}
    (engine,) = found.engine
    assert (engine.generate, engine.captiond, engine.ratio, engine.floor) == (4, 2, 0.5, 0.05)
    assert engine.of_floor == 0.025
    (service,) = found.service
    assert (service.clients, service.images_per_second) == (2, 2)
    assert (service.p50, service.p99) == (0.2, 0.4)
    assert list(service.idle) == ["decoding", "clients"]
    assert service.idle == pytest.approx({"decoding": 0.3, "clients": 0.1})


def test_idle_time_from_before_the_load_does_not_count() -> None:
    registry, recorder = Registry(), Recorder()

    def batch(process: str, busy: float, **idle: float) -> None:
        recorder.count(MODEL_BUSY, process, amount=busy)
        for cause, seconds in idle.items():
            recorder.count(MODEL_IDLE, process, cause, amount=seconds)
        registry.add(recorder.take())

    batch("model0", 5, clients=3, decoding=1)
    before = registry.snapshot()
    assert spent(before, before, 9.0) == (0, {})
    batch("model0", 2, clients=60, decoding=1)
    batch("model0", 3, clients=1)
    batch("model1", 4, clients=70, more=2)
    busy, idle = spent(before, registry.snapshot(), 8.0)
    assert busy == 9
    assert idle == {"clients": 2 + 2, "decoding": 1, "more": 2}, "8 seconds for each process"


def test_captions_are_compared_without_their_padding() -> None:
    theirs = torch.tensor([[1, 5, 2, 0, 0], [1, 6, 2, 0, 0], [1, 7, 8, 2, 0]])
    ours = torch.tensor([[1, 5, 2, 0], [1, 9, 2, 0], [1, 7, 8, 2]])
    assert equal_part(theirs, ours, padding=0) == pytest.approx(2 / 3)
    assert equal_part(ours, theirs, padding=0) == pytest.approx(2 / 3)


def test_the_smallest_batch_that_is_nearly_the_best_is_suggested() -> None:
    found = measured((1, 1.5), (4, 4.1), (8, 8.0), (16, 16.8))
    assert suggested(found, "fp32", threads=2, cores=8).batch_size == 4


def test_decoders_keep_ahead_of_the_model_within_the_cores() -> None:
    found = measured((1, 0.1))
    assert suggested(found, "fp32", threads=2, cores=8).decoders == 4
    assert suggested(found, "fp32", threads=2, cores=2).decoders == 2


def test_a_case_without_memory_is_left_out() -> None:
    def too_large() -> None:
        raise OutOfMemory("no")

    cases = [
        Case(CaseKind.GENERATE, "1", 1, lambda: 7),
        Case(CaseKind.GENERATE, "256", 256, too_large),
    ]
    told: list[Case] = []
    ((case, taken),) = measure(cases, 3, told.append)
    assert case is cases[0]
    assert [sample.result for sample in taken] == [7, 7, 7]
    assert len(told) == 5


RUN_SERVICE = """
import sys, time
from pathlib import Path
from captiond.bench.load import started

with started(Path(sys.argv[1]), Path(sys.argv[2])) as process:
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("listening", [False, True])
def test_a_measured_service_ends_with_a_measurement_that_is_killed(
    tmp_path: Path, listening: bool
) -> None:
    config, log = tmp_path / "captiond.toml", tmp_path / "log"
    config.write_text("[model]\nname = 'captiond/scenes'\n[logs]\nformat = 'json'\n")
    with subprocess.Popen(
        [sys.executable, "-c", RUN_SERVICE, str(config), str(log)], stdout=subprocess.PIPE
    ) as bench:
        assert bench.stdout is not None
        service = psutil.Process(int(bench.stdout.readline()))
        if listening:
            wait_for(lambda: logged(log, "listening", "url"), "the service to listen")
        bench.kill()
    wait_until_gone([service])


def test_the_service_is_measured_with_the_settings_of_the_engine(tmp_path: Path) -> None:
    model = ModelFiles("random", tmp_path)
    wanted = measured_settings(Settings(), model)
    file = tmp_path / "captiond.toml"
    file.write_text(as_toml(wanted))
    assert load_settings(file=file, environ={}, flags={}) == wanted, (
        "the captions of the service would have other lengths"
    )

"""What a start does about the ways of a model: it remembers, measures, or takes the usual ones."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.blip.configuration_blip import BlipConfig
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners import tuning
from captiond.captioners.files import find_model, fingerprint
from captiond.captioners.notes import add_notes, read_notes
from captiond.captioners.tuning_record import (
    MOST_TRIES,
    TuningRecord,
    usual_record,
    write_record,
)
from captiond.cli import tune_command
from captiond.cli.check_command import check_devices, check_tuning
from captiond.host import machine
from captiond.settings.config import Settings
from captiond.worker.tuned import (
    measured_anew,
    precisions_of,
    remembered_for_service,
    tuned,
    tuning_key,
)

CPU = torch.device("cpu")
MARK = "fingerprint"
NAME, FLAGS = "Some CPU", "fpu avx2"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is just large enough for a choice, with random weights."""
    folder = tmp_path_factory.mktemp("tuned") / "model"
    width = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6}
    vision: dict[str, Any] = width | {"num_hidden_layers": 3, "image_size": 384}
    text = {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "encoder_hidden_size": 384,
        "vocab_size": 100,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 2,
    }
    BlipForConditionalGeneration(
        BlipConfig(vision_config=vision, text_config=text)
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    set_processor(NAME, FLAGS)
    # Larger batches, and more rounds of each race, would take most of the time of these tests.
    monkeypatch.setattr(tuning, "MOST_ON_CPU", 2)
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    (tmp_path / "data").mkdir()
    return Settings.model_validate(
        {"data": {"dir": tmp_path / "data"}, "model": {"name": str(model), "threads": 1}}
    )


def set_processor(name: str, flags: str) -> None:
    machine.CPUINFO.write_text(f"processor\t: 0\nmodel name\t: {name}\nflags\t\t: {flags}\n")


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every machine count as idle, however busy it is."""
    monkeypatch.setattr(tuning, "LEAST_SHARE", 0.0)
    monkeypatch.setattr(tuning, "MOST_SPREAD", float("inf"))
    monkeypatch.setattr(tuning, "LIMIT_SECONDS", 1e6)
    monkeypatch.setattr(tuning, "RACE_SECONDS", 0.0)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every machine count as busy, however idle it is."""
    monkeypatch.setattr(tuning, "LEAST_SHARE", 2.0)
    monkeypatch.setattr(tuning, "LIMIT_SECONDS", 0.0)  # which leaves out most races


def start(settings: Settings) -> TuningRecord:
    """Return the record with which a start goes on."""
    known = tuned(settings, CPU, MARK)
    if known.settled:
        return known
    return measured_anew(settings, CPU, Path(settings.model.name), MARK, known)


@pytest.mark.usefixtures("busy")
def test_a_busy_machine_is_measured_again_by_the_next_starts_but_not_forever(
    settings: Settings,
) -> None:
    tries = [start(settings).tries for _ in range(MOST_TRIES + 1)]
    assert tries == [*range(1, MOST_TRIES + 1), MOST_TRIES]


@pytest.mark.usefixtures("idle")
def test_an_idle_machine_is_measured_once(settings: Settings) -> None:
    first = start(settings)
    assert first.settled
    assert start(settings) == first


@pytest.mark.usefixtures("busy")
def test_a_result_that_cannot_be_kept_serves_this_start(settings: Settings) -> None:
    settings.data.dir.rmdir()
    settings.data.dir.touch()  # so that nobody, not even root, can write a file in it
    assert start(settings).tries == 1
    assert tuned(settings, CPU, MARK) == usual_record("fp32", 1)


@pytest.mark.usefixtures("busy")
def test_a_damaged_record_leads_to_the_usual_ways(settings: Settings) -> None:
    start(settings)
    settings.tuning.write_text(settings.tuning.read_text().replace('"fp32"', '"fp33"'))
    assert tuned(settings, CPU, MARK) == usual_record("fp32", 1)


@pytest.mark.usefixtures("busy")
def test_a_record_belongs_to_a_processor_and_a_model(settings: Settings) -> None:
    record = start(settings)
    assert tuned(settings, CPU, MARK) == record
    assert tuned(settings, CPU, "another model") == usual_record("fp32", 1)
    set_processor("Another CPU", FLAGS)
    assert tuned(settings, CPU, MARK) == usual_record("fp32", 1)


@pytest.mark.parametrize(
    ("flags", "precision", "expected"),
    [
        ("fpu avx2", "auto", ("fp32",)),
        ("fpu avx512_bf16", "auto", ("fp32", "bf16")),
        ("fpu amx_bf16", "auto", ("fp32", "bf16")),
        ("fpu amx_bf16", "fp32", ("fp32",)),
        ("fpu amx_bf16", "int8", ("int8",)),
    ],
)
def test_bf16_is_tried_where_the_processor_multiplies_it(
    settings: Settings, flags: str, precision: str, expected: tuple[str, ...]
) -> None:
    set_processor(NAME, flags)
    asked = settings.model.model_copy(update={"precision": precision})
    assert precisions_of(settings.model_copy(update={"model": asked}), CPU) == expected


# ---------------------------------------------------------------- commands


@pytest.fixture
def own_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command leave the logs of the test's process as they are."""
    monkeypatch.setattr(tune_command, "set_up_logs", lambda *_, **__: None)


def test_the_check_warns_of_bf16_where_the_processor_does_not_multiply_it(
    settings: Settings,
) -> None:
    assert check_devices(settings) == "cpu"
    in_bf16 = settings.model.model_copy(update={"precision": "bf16"})
    settings = settings.model_copy(update={"model": in_bf16})
    set_processor(NAME, "fpu avx2")
    assert "fp32 is faster" in check_devices(settings)
    set_processor(NAME, "fpu avx512_bf16")
    assert check_devices(settings) == "cpu"


@pytest.mark.usefixtures("idle", "own_logs")
def test_the_command_keeps_its_result_and_check_shows_it(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not measured yet" in check_tuning(settings)
    assert tune_command.tune(settings)
    output = capsys.readouterr().out
    record = remembered_for_service(settings)
    assert record is not None
    summary = tune_command.summary(record)
    assert summary in " ".join(output.split())  # the console folds lines
    assert "attention of images" in output
    assert output.count("chosen") >= 3  # of each race: attention, layers of images, of texts
    assert check_tuning(settings) == summary


@pytest.mark.usefixtures("busy", "own_logs")
def test_the_command_keeps_nothing_of_a_busy_machine(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not tune_command.tune(settings)
    assert "was busy" in capsys.readouterr().out
    assert remembered_for_service(settings) is None


@pytest.mark.usefixtures("own_logs")
def test_the_command_has_nothing_to_choose_for_the_embedded_model(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its batch size may have been measured on a busy machine. The next start measures it again."""
    small = settings.model.model_copy(update={"name": "captiond/scenes"})
    settings = settings.model_copy(update={"model": small})
    files = find_model(settings)
    key = tuning_key(settings, CPU, fingerprint(files.folder))
    write_record(settings.tuning, key, usual_record("fp32", 1).with_batch_size(2))
    add_notes(settings.tuning, {"of another model": {}})
    assert tune_command.tune(settings)
    assert remembered_for_service(settings) is None
    assert list(read_notes(settings.tuning)) == ["of another model"]
    output = capsys.readouterr().out
    assert output.startswith("captiond/scenes on cpu\n")
    assert "nothing to choose" in output


# ---------------------------------------------------------------- the machine


def test_the_processor_has_a_name_and_flags(settings: Settings) -> None:
    assert machine.processor() == (NAME, frozenset(FLAGS.split()))
    machine.CPUINFO.write_text("processor\t: 0\nFeatures\t: fp asimd\n")  # as on ARM
    assert machine.processor() == ("", frozenset())


def test_second_hardware_threads_are_no_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5})
    assert machine.physical_cores() == 4  # sysfs does not say more
    for thread, siblings in ((0, "0,4"), (4, "0,4"), (1, "1,5"), (5, "1,5")):
        folder = tmp_path / f"cpu{thread}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert machine.physical_cores() == 2

"""Which ways a model computes in on this machine: remembered, measured, or the usual ones."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch

from captiond.captioners.choices import as_values
from captiond.captioners.devices import pick_device, pick_precision
from captiond.captioners.families import probe_of
from captiond.captioners.files import find_model, fingerprint, locate
from captiond.captioners.protocol import Placement
from captiond.captioners.tuning import Timing, Tuner
from captiond.captioners.tuning_record import (
    TuningRecord,
    forget_record,
    key_of,
    read_record,
    usual_record,
    write_record,
)
from captiond.host.machine import physical_cores, processor, trim_heap
from captiond.settings.config import Precision, Settings
from captiond.worker.threads import threads_of

# Processors with one of these flags multiply bf16 numbers in hardware.
BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class MachineMeasured:
    """A record, and the timings if it has just been measured: of which model, on which device."""

    record: TuningRecord
    timings: tuple[Timing, ...] = ()
    model: str = ""
    device: str = ""


def tuned(settings: Settings, device: torch.device, mark: str) -> TuningRecord:
    """Return what an earlier start has measured for a model, or else the usual record.

    `mark` is the fingerprint of the model.
    """
    usual = usual_record(pick_precision(settings.model.precision, device), threads_of(settings))
    return read_record(settings.tuning, tuning_key(settings, device, mark)) or usual


def measured(
    settings: Settings,
    device: torch.device,
    folder: Path,
    on_race: Callable[[str], None] = lambda _: None,
) -> MachineMeasured:
    """Measure the ways for the model in a folder. There is nothing to choose for small models.

    Raises:
        ModelBroken: config.json cannot be read.
    """
    precisions = precisions_of(settings, device)
    probe = probe_of(folder, Placement(device, precisions[0]))
    if probe is None:
        return MachineMeasured(usual_record(precisions[0], threads_of(settings)))
    begun = time.perf_counter()
    tuning = Tuner(probe, on_race).tune(precisions, thread_counts(settings))
    del probe
    trim_heap()  # before the model is loaded
    record = TuningRecord(
        precision=tuning.precision,
        choices=tuning.choices,
        threads=tuning.threads,
        batch_size=tuning.batch_size,
        quiet=tuning.quiet,
        tries=1,
    )
    log.info(
        "machine_measured",
        seconds=round(time.perf_counter() - begun, 1),
        trusted=record.quiet,
        precision=record.precision,
        threads=record.threads,
        batch_size=record.batch_size,
        **as_values(record.choices),
    )
    return MachineMeasured(record, tuning.timings)


def measured_anew(
    settings: Settings, device: torch.device, folder: Path, mark: str, known: TuningRecord
) -> TuningRecord:
    """Measure the ways after a start that has known `known`, and remember the result."""
    record = measured(settings, device, folder).record
    if record.tries:
        record = replace(record, tries=known.tries + 1)
        write_record(settings.tuning, tuning_key(settings, device, mark), record)
    return record


def tuning_key(settings: Settings, device: torch.device, mark: str) -> str:
    model = settings.model
    beams = settings.default_generation.num_beams
    return key_of(device, mark, model.precision, threads_of(settings), beams)


def precisions_of(settings: Settings, device: torch.device) -> tuple[Precision, ...]:
    """Return the precisions to choose from: bf16 only where the processor multiplies it."""
    usual = pick_precision(settings.model.precision, device)
    if settings.model.precision != "auto" or device.type != "cpu":
        return (usual,)
    return (usual, "bf16") if multiplies_bf16() else (usual,)


def multiplies_bf16() -> bool:
    """Return whether the processor multiplies bf16 numbers in hardware."""
    return bool(processor()[1] & BF16_FLAGS)


def thread_counts(settings: Settings) -> tuple[int, ...]:
    """Return the numbers of threads to choose from: one for each core, if cores have several."""
    usual = threads_of(settings)
    cores = max(1, physical_cores() // len(settings.model.devices))
    return (usual,) if settings.model.threads or cores >= usual else (usual, cores)


def measured_for_service(settings: Settings, on_race: Callable[[str], None]) -> MachineMeasured:
    """Measure the model of the settings on the first device; remember a trustworthy result.

    If there is nothing to choose for the model, forget its batch size: the next start measures it
    again, with the model itself.

    Raises:
        ModelMissing, ModelBroken: there is no model to measure.
    """
    files, device = find_model(settings), pick_device(settings.model.devices[0])
    found = measured(settings, device, files.folder, on_race)
    key = tuning_key(settings, device, fingerprint(files.folder, settings.fingerprints))
    if not found.record.tries:
        forget_record(settings.tuning, key)
    elif found.record.quiet:
        write_record(settings.tuning, key, found.record)
    return replace(found, model=files.name, device=str(device))


def remembered_for_service(settings: Settings) -> TuningRecord | None:
    """Return the record of the model of the settings on the first device, if there is one.

    Raises:
        ModelMissing: the model is not on disk.
    """
    device = pick_device(settings.model.devices[0])
    notes = settings.fingerprints if settings.fingerprints.exists() else None
    mark = fingerprint(locate(settings, settings.model.name, download=False), notes)
    return read_record(settings.tuning, tuning_key(settings, device, mark))

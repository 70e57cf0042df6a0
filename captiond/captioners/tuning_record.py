"""What `tuning` has chosen, kept in the data folder for the next start.

A record belongs to a processor, a model and the versions of captiond and torch. If any of them
changes, the machine is measured again. A damaged file, or a record of another form, counts as
missing.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog
import torch
from pydantic import TypeAdapter, ValidationError

import captiond
from captiond.captioners.choices import Choices, default_choices
from captiond.captioners.notes import add_notes, read_notes, remove_note
from captiond.host.machine import processor
from captiond.settings.config import Precision

MOST_TRIES = 3  # starts that measure a busy machine; then the last result is kept
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TuningRecord:
    """How a model computes on this machine. `tries` is 0 if nothing has been measured."""

    precision: Precision
    choices: Choices
    threads: int
    batch_size: int | None = None
    quiet: bool = True  # the machine was idle enough to trust the measurement
    tries: int = 0

    @property
    def settled(self) -> bool:
        """Whether a start does not measure again."""
        return self.tries > 0 and (self.quiet or self.tries >= MOST_TRIES)

    def with_batch_size(self, size: int, *, quiet: bool = True) -> "TuningRecord":
        """Return the record with a measured batch size. `quiet` says whether it can be trusted."""
        quiet = quiet and self.quiet
        return replace(self, batch_size=size, quiet=quiet, tries=max(1, self.tries))


RECORD = TypeAdapter(TuningRecord)


def usual_record(precision: Precision, threads: int) -> TuningRecord:
    """Return the record of a machine that has not been measured."""
    return TuningRecord(precision, default_choices(precision), threads)


def read_record(path: Path, key: str) -> TuningRecord | None:
    """Return the record for `key`, or None if there is none that can be used."""
    entry = read_notes(path).get(key)
    if entry is None:
        return None
    try:
        return RECORD.validate_python(entry)
    except ValidationError:
        log.warning("tuning_record_ignored", path=str(path), reason="it is damaged")
        return None


def write_record(path: Path, key: str, record: TuningRecord) -> None:
    """Keep a record. If the disk refuses, the next start measures again."""
    add_notes(path, {key: asdict(record)})


def forget_record(path: Path, key: str) -> None:
    """Remove a record, so that the next start measures again."""
    remove_note(path, key)


def key_of(device: torch.device, fingerprint: str, *asked: object) -> str:
    """Return everything that a record depends on, as one line.

    `asked` are the settings that the choices depend on.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()[0]
    parts = (name, fingerprint, *asked, torch.__version__, captiond.__version__)
    return " ".join(str(part) for part in parts)

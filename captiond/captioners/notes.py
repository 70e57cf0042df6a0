"""Small JSON files in the data folder that save a later start some work.

They can be deleted at any time. A damaged file counts as empty.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()


def read_notes(path: Path) -> dict[str, Any]:
    """Return what a file of notes holds; nothing if it is missing or damaged."""
    try:
        notes = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def add_notes(path: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to a file of notes. If the disk refuses, the next start repeats the work."""
    known = read_notes(path)
    if known | dict(entries) != known:
        write_notes(path, known | dict(entries))


def remove_note(path: Path, key: str) -> None:
    """Remove an entry from a file of notes, if it is there."""
    known = read_notes(path)
    if known.pop(key, None) is not None:
        write_notes(path, known)


def write_notes(path: Path, notes: Mapping[str, Any]) -> None:
    """Replace a file of notes as a whole."""
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        draft.write_text(json.dumps(notes, indent=1))
        draft.replace(path)
    except OSError as error:
        log.warning("notes_not_written", path=str(path), reason=str(error))
        with suppress(OSError):  # a read-only file system refuses this as well
            draft.unlink()

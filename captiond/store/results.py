"""An outcome as it stands in a JSON column, and back."""

from dataclasses import asdict
from typing import Any

from captiond.jobs import Captioned, Outcome, Refused


def to_json(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome)


def from_json(value: dict[str, Any]) -> Outcome:
    if "error" in value:
        return Refused(**value)
    return Captioned(**{**value, "tags": tuple(value["tags"])})

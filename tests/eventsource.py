"""Server-sent events as a client reads them (HTML standard, 9.2.6)."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.patience import PATIENCE


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `id` is the last event id at that point, as a browser keeps it."""

    name: str
    id: str
    data: dict[str, Any]


def events_in(lines: Iterator[str], last: str = "") -> Iterator[ServerEvent]:
    """Yield the events of a stream. Fail if it goes on for too long: its heartbeats never end."""
    fields: dict[str, str] = {}
    deadline = time.monotonic() + PATIENCE
    for line in lines:
        assert time.monotonic() < deadline, "the stream does not end"
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        last = fields.get("id", last)
        if "data" in fields:
            yield ServerEvent(fields["event"], last, json.loads(fields["data"]))
        fields = {}


@contextmanager
def followed(
    client: httpx.Client, task_id: str, last: str = "", **headers: str
) -> Iterator[Iterator[ServerEvent]]:
    """Yield the events of a task that follow the last one, as they arrive."""
    sent = {**headers, **({"Last-Event-ID": last} if last else {})}
    path = f"/async-batch-caption/events/{task_id}"
    with client.stream("GET", path, headers=sent) as response:
        assert response.status_code == 200
        yield events_in(response.iter_lines(), last)

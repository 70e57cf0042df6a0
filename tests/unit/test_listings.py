"""Lists for people: whole cells on every terminal, and times of this place."""

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.text import Text

from captiond.cli import task_views
from captiond.cli.listings import moment, print_listing

TASK = "task_1672531200_0123456789abcdef0123456789abcdef"
COLUMNS = ("task", "status", "accepted", "empty")
ROW = (Text(TASK), Text("COMPLETED"), Text("2026-11-24 06:18:33 CET"), Text())


class Terminal(io.StringIO):
    """A terminal as a program sees it: a stream that says that it is one."""

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """What was printed, without colours."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.getvalue())


@contextmanager
def zone(name: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    with patch.context() as inside:
        inside.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()


def listed(columns: int, patch: pytest.MonkeyPatch) -> list[str]:
    patch.setenv("COLUMNS", str(columns))
    out = Terminal()
    print_listing(COLUMNS, [ROW, ROW], out)
    return out.text.splitlines()


def test_a_wide_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = listed(120, monkeypatch)
    assert lines[1].split() == ["task", "status", "accepted", "empty"]
    assert len([line for line in lines if TASK in line and "06:18:33 CET" in line]) == 2


def test_a_narrow_terminal_gets_records_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = listed(60, monkeypatch)
    assert [line.rstrip() for line in lines[:2]] == [
        TASK,
        "  status COMPLETED  accepted 2026-11-24 06:18:33 CET",
    ]
    assert all(len(line.rstrip()) <= 60 for line in lines)
    assert "empty" not in "".join(lines)
    assert listed(40, monkeypatch)[2].strip() == "accepted 2026-11-24 06:18:33 CET"


def test_times_are_local_and_name_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    with zone("Europe/Berlin", monkeypatch):
        assert moment("2026-11-24T05:18:33Z").plain == "2026-11-24 06:18:33 CET"
        assert moment("2026-07-24T05:18:33.5Z").plain == "2026-07-24 07:18:33 CEST"
    with zone("UTC", monkeypatch):
        assert moment("2026-11-24T05:18:33Z").plain == "2026-11-24 05:18:33 UTC"
    assert moment(None).plain == ""


def test_a_task_on_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = Terminal()
    delivery: dict[str, Any] = {
        "id": "msg_0123456789abcdef0123456789abcdef", "status": "PENDING", "attempts": 2,
        "tried_at": "2026-11-24T05:18:33Z", "due_at": "2026-11-24T06:18:33Z", "response": 500,
        "error": None, "url": "http://photos.example.com:8080/a/long/path/of/a/webhook",
    }  # fmt: skip
    task = {
        "task_id": TASK, "status": "PROCESSING", "message": "Processing.", "deliveries": [delivery],
        "created_at": "2026-11-24T05:18:33Z", "started_at": None, "finished_at": None,
        "result": [{"image_path": "a" * 60, "caption": "a boat", "tags": ["boat"], "error": None}],
    }  # fmt: skip
    task_views.show_task(task, out)
    text = out.text
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    for whole in (TASK, delivery["id"], delivery["url"], "finished not yet"):
        assert whole in text

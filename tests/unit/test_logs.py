"""How the log looks, on a real terminal and elsewhere."""

import json
import subprocess
import sys

import pytest

from captiond.logs import shortened
from tests.patience import PATIENCE
from tests.terminals import on_terminal

TASK_ID = "task_1700000000_" + "0123456789abcdef" * 2
CODE = f"""
import structlog
from captiond.settings.config import LogSettings
from captiond.logs import set_up_logs
set_up_logs(LogSettings(format="FORMAT"), process="web0-1")
log = structlog.get_logger()
log.warning("something", task_id="{TASK_ID}", task_ids=["{TASK_ID}"], name="a\\nforged line")
"""
COLOR = "\x1b["


def shown(**environ: str) -> str:
    """Return what a process logs whose standard error is a terminal."""
    command = [sys.executable, "-c", CODE.replace("FORMAT", "auto")]
    with on_terminal(command, "stderr", environ=environ) as terminal:
        assert terminal.end() == 0
    return terminal.shown


def piped(form: str) -> list[str]:
    code = CODE.replace("FORMAT", form)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return done.stderr.splitlines()


def test_a_terminal_gets_coloured_text() -> None:
    output = shown(TERM="xterm", NO_COLOR="")
    assert COLOR in output
    assert output.count("\n") == 1
    assert "something" in output


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colours_gets_none(environ: dict[str, str]) -> None:
    output = shown(**{"TERM": "xterm", "NO_COLOR": "", **environ})
    assert COLOR not in output
    assert "something" in output


def test_elsewhere_the_log_is_json_without_whole_task_ids() -> None:
    (line,) = piped("auto")
    entry = json.loads(line)
    assert entry["event"] == "something"
    assert entry["process"] == "web0-1"
    assert entry["task_id"] == shortened(TASK_ID) == "task_1700000000_012345…"
    assert entry["task_ids"] == [shortened(TASK_ID)]
    assert entry["timestamp"].endswith("Z")


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_values(form: str) -> None:
    """They may be keys of clients."""
    code = CODE.replace("FORMAT", form) + (
        "def handle(key):\n"
        "    try:\n"
        "        raise ValueError('broken')\n"
        "    except ValueError:\n"
        "        log.exception('request_failed')\n"
        "handle('cpd_' + 'secret')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert "ValueError: broken" in done.stderr
    assert "cpd_secret" not in done.stderr


def test_text_in_a_file_has_no_colours_and_no_forged_line() -> None:
    (line,) = piped("console")
    assert "\x1b[" not in line
    assert "forged" in line

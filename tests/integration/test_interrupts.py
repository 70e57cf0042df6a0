"""Ctrl-C, kills and terminals: real processes, stopped at moments that the tests wait for."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE
from tests.service import DATA, MODEL, ONE_THREAD, captiond, wait_for
from tests.terminals import ALL, Session, on_terminal

# Is `captiond`, and sends SIGINT to itself when a module is imported or a file is opened.
AT_THE_USE_OF = """
import os, signal, sys
def on_event(event, arguments):
    if event in {{"import", "open"}} and str(arguments[0]).endswith({name!r}):
        os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.addaudithook(on_event)
from captiond.__main__ import main
main()
"""
SCENE = str(DATA / "boat_and_sun.png")
CAPTION = ("caption", "--model", MODEL, SCENE)


def interrupted(
    name: str, arguments: tuple[str, ...], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command that gets SIGINT when it imports the module, or opens the file, `name`."""
    script = AT_THE_USE_OF.format(name=name)
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("captiond.cli.main", ("--help",)),
        ("typer", ("--help",)),
        ("pydantic", ("config", "show")),
        ("captiond.cli.listings", ("tasks", "list")),
        ("torch", CAPTION),
        ("torch", ("bench",)),
        ("spacy", ("check",)),
        ("captiond.supervisor.supervisor", ("serve",)),
    ],
)
def test_ctrl_c_during_imports_ends_a_command_in_silence(
    tmp_path: Path, module: str, arguments: tuple[str, ...]
) -> None:
    result = interrupted(module, arguments, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_while_the_model_loads_says_that_nothing_is_done(tmp_path: Path) -> None:
    result = interrupted("scenes/config.json", (*CAPTION, "--json"), tmp_path)
    assert (result.returncode, result.stdout) == (-signal.SIGINT, "")
    assert result.stderr == "captiond: stopped; 0 of 1 images have their results\n"


def test_a_killed_run_continues_and_captions_nothing_twice(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out.json"
    folder.mkdir()
    for number in range(60):
        shutil.copy(SCENE, folder / f"{number:02}.png")
    flags = ("in", "--output", "out.json", "--sidecar", "xmp", "--embed")
    run = ("caption", "--model", MODEL, "--set", "model.batch_size=1", *flags)
    with subprocess.Popen(
        [sys.executable, "-m", "captiond", *run], cwd=tmp_path, env={**os.environ, **ONE_THREAD}
    ) as process:
        wait_for(lambda: out.exists() and out.read_bytes().count(b'"error": null') > 2, "results")
        process.kill()
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.xmp")}
    assert 2 < len(done) < 60, "it was killed in the middle"
    result = captiond(*run, "--skip-existing", cwd=tmp_path, **ONE_THREAD)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    names = [Path(entry["image_path"]).name for entry in json.loads(out.read_text())]
    assert names == [f"{number:02}.png" for number in range(60)]
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.xmp")}
    assert len(after) == 60
    # The image that was being written when the kill came may be written again.
    assert sum(after[name] != time for name, time in done.items()) <= 1


# ---------------------------------------------------------------- on a terminal


def session(*arguments: str, cwd: Path) -> AbstractContextManager[Session]:
    """Run captiond on a terminal of its own."""
    program = [sys.executable, "-m", "captiond", *arguments]
    environ = {**ONE_THREAD, "COLUMNS": "100", "CAPTIOND_MODEL__STANDBY": "false"}
    return on_terminal(program, *ALL, cwd=cwd, environ=environ)


SERVE = ("serve", "--port", "0", "--model", MODEL, "--data-dir", "data")


def test_serve_says_when_it_is_ready_and_when_it_has_stopped(tmp_path: Path) -> None:
    with session(*SERVE, cwd=tmp_path) as terminal:
        terminal.read_until("ready: ")
        terminal.read_until("\n")
        terminal.press_ctrl_c()
        assert terminal.end() == 0
    lines = terminal.plain.splitlines()
    (ready,) = (line for line in lines if line.startswith("ready: "))
    assert re.fullmatch(r"ready: http://127\.0\.0\.1:\d+ · captiond/scenes · cpu", ready)
    assert lines[-1] == "stopped; accepted tasks continue at the next start"
    assert "Traceback" not in terminal.plain


def test_ctrl_c_while_the_service_starts_is_no_alarm(tmp_path: Path) -> None:
    """The terminal sends it to all processes, also to those that have just been started."""
    with session(*SERVE, cwd=tmp_path) as terminal:
        terminal.read_until("listening")
        supervisor = psutil.Process(terminal.process.pid)
        wait_for(lambda: len(supervisor.children()) > 1, "a child process")
        terminal.press_ctrl_c()
        assert terminal.end() == 0
    assert "draining" in terminal.plain
    assert "died" not in terminal.plain
    assert "Traceback" not in terminal.plain


def test_a_progress_bar_has_rate_and_result(tmp_path: Path) -> None:
    with session(*CAPTION, cwd=tmp_path) as terminal:
        assert terminal.end() == 0
    for part in ("a red boat", "captioning", "1/1", "images/s", "1 image captioned"):
        assert part in terminal.plain
    assert "{" not in terminal.plain

"""`make install` may be interrupted, and `make run` installs no tools for tests."""

import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE

PROJECT = Path(__file__).parents[2]
PIP_INSTALL = "-m pip install --no-compile --constraint constraints.txt --editable"
PROGRAM = """#!/bin/sh
echo "$0 $*" >> {log}
case "$*" in
  *venv*) mkdir -p {venv}/bin; cp {good} {venv}/bin/python ;;
esac
exit {status}
"""


class Environment:
    """A virtual environment whose programs only write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.venv = folder / "venv"
        self.log = folder / "log"
        self.python = self.program(folder / "python3.11", status=0)
        self.venv.joinpath("bin").mkdir(parents=True)

    def program(self, path: Path, *, status: int) -> Path:
        good = path.parent / "python3.11"
        text = PROGRAM.format(log=self.log, venv=self.venv, good=good, status=status)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", f"VENV={self.venv}", f"PYTHON={self.python}", *arguments]
        return subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    def calls(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        self.log.unlink()
        return [line.partition(" ")[2] for line in lines]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def test_an_interrupted_installation_is_finished_by_the_next_one(environment: Environment) -> None:
    environment.program(environment.venv / "bin" / "python", status=1)  # it has no pip
    done = environment.make("install")
    assert done.returncode == 0, done.stderr
    assert environment.calls() == [
        "-m pip --version",
        f"-m venv --clear {environment.venv}",
        f"{PIP_INSTALL} .",
        f"-m compileall -qq -j 0 {environment.venv}/lib",
    ]
    environment.make("install")
    assert not environment.log.exists(), "everything is installed"


def test_a_failed_installation_is_tried_again(environment: Environment) -> None:
    program = environment.venv / "bin" / "python"
    program.write_text('#!/bin/sh\ncase "$*" in *install*) exit 1 ;; esac')
    program.chmod(0o755)
    assert environment.make("install").returncode != 0
    environment.program(program, status=0)
    assert environment.make("install").returncode == 0
    assert f"{PIP_INSTALL} ." in environment.calls()


def test_only_tests_need_their_tools(environment: Environment) -> None:
    planned = environment.make("--dry-run", "run").stdout
    assert "--editable ." in planned
    assert "[dev]" not in planned
    assert "captiond serve" in planned
    planned = environment.make("--dry-run", "tests").stdout
    assert "--editable '.[dev]'" in planned


def test_whoever_has_the_tools_has_the_rest(environment: Environment) -> None:
    environment.program(environment.venv / "bin" / "python", status=0)
    assert environment.make("tools").returncode == 0
    assert environment.calls() == ["-m pip --version", f"{PIP_INSTALL} .[dev]"]
    environment.make("install")
    assert not environment.log.exists(), "everything is installed"

"""The box of image decoders: a process in it can do nothing but decode.

Each attempt is made in a process of its own, which is in the box for good.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from captiond.processes.box import call_filter, enter_box, missing_parts
from tests.patience import PATIENCE
from tests.unit.forked import exit_code_of

BOXED = pytest.mark.skipif(bool(missing_parts()), reason="the kernel lacks a part of the box")
DONE = 0


def in_the_box(folder: Path, attempt: Callable[[], object]) -> int:
    """Return the errno of an attempt in the box, or 0 if it succeeds."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            enter_box(folder)
            attempt()
            code = DONE
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return exit_code_of(child)


def fork_and_leave() -> None:
    if os.fork() == 0:
        os._exit(0)


def run_thread() -> None:
    thread = threading.Thread(target=len, args=("",))
    thread.start()
    thread.join()


ATTEMPTS: dict[str, Callable[[Path], object]] = {
    "read a file outside": lambda folder: (folder.parent / "secret").read_bytes(),
    "read a system file": lambda _: Path("/etc/passwd").read_bytes(),
    "list its folder": lambda folder: list(folder.iterdir()),
    "write its file": lambda folder: (folder / "input").open("ab"),
    "create a file": lambda folder: (folder / "new").write_bytes(b""),
    "remove its file": lambda folder: (folder / "input").unlink(),
    "follow a link": lambda folder: (folder / "link").read_bytes(),
    "open a socket": lambda _: socket.socket(),
    "open a local socket": lambda _: socket.socket(socket.AF_UNIX),
    "fork": lambda _: fork_and_leave(),
    "run a program": lambda _: os.execv("/bin/true", ["true"]),
    "change its root": lambda _: os.chroot("/"),
}


@BOXED
@pytest.mark.parametrize("name", ATTEMPTS)
def test_everything_else_is_forbidden(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "input").write_bytes(b"image")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    assert in_the_box(folder, lambda: ATTEMPTS[name](folder)) in {1, 13}  # EPERM, EACCES
    assert (folder / "input").read_bytes() == b"image"


@BOXED
@pytest.mark.parametrize(
    "attempt",
    [
        lambda parent: os.kill(parent, 0),
        lambda parent: Path(f"/proc/{parent}/environ").read_bytes(),
    ],
    ids=["signal", "look at"],
)
def test_its_parent_is_out_of_reach(tmp_path: Path, attempt: Callable[[int], object]) -> None:
    parent = os.getpid()
    assert in_the_box(tmp_path, lambda: attempt(parent)) in {1, 13}  # EPERM, EACCES


@BOXED
def test_decoding_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"image")
    assert in_the_box(tmp_path, (tmp_path / "input").read_bytes) == DONE
    assert in_the_box(tmp_path, run_thread) == DONE
    assert in_the_box(tmp_path, lambda: bytearray(64 << 20)) == DONE


def test_missing_parts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captiond.processes.box.landlock_version", lambda: -1)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert missing_parts() == ["landlock", "seccomp"]


def test_the_filter_is_made_for_both_machines() -> None:
    codes = [call_filter(machine, 7) for machine in ("x86_64", "aarch64")]
    assert len(codes[0]) == len(codes[1])
    assert all(len(code) // 8 < 4096 for code in codes)  # BPF_MAXINSNS


@BOXED
def test_a_process_that_aborts_is_seen_to_abort(tmp_path: Path) -> None:
    """abort(3) signals its own process, which is allowed."""
    code = (
        "import os, pathlib, sys; from captiond.processes.box import enter_box;"
        "enter_box(pathlib.Path(sys.argv[1])); os.abort()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, check=False, timeout=PATIENCE)
    assert done.returncode == -6

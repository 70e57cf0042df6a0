"""Programs on a terminal of their own: what they show there, and its Ctrl-C key."""

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.patience import PATIENCE

CTRL_C = b"\x03"
ESCAPES = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
ALL = ("stdin", "stdout", "stderr")


class Session:
    """A program on a terminal. `shown` is what was read so far, with its colours."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self._read = b""

    @property
    def shown(self) -> str:
        return self._read.decode(errors="replace")

    @property
    def plain(self) -> str:
        """What is shown, without colours and movements of the cursor."""
        return ESCAPES.sub("", self.shown)

    def read_until(self, text: str) -> None:
        """Read until the program has shown a text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.plain:
            assert self._read_part(deadline), f"no {text!r} in\n{self.plain}"

    def press_ctrl_c(self) -> None:
        os.write(self._terminal, CTRL_C)

    def end(self) -> int:
        """Read until all processes have closed the terminal. Return the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read_part(deadline):
            pass
        return self.process.wait(PATIENCE)

    def _read_part(self, deadline: float) -> bool:
        """Read what is shown next. Return whether the terminal is still open."""
        left = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([self._terminal], [], [], left)
        assert ready, f"nothing more is shown after\n{self.plain}"
        try:
            self._read += os.read(self._terminal, 65536)
        except OSError:  # how Linux reports that the other side is closed
            return False
        return True


@contextmanager
def on_terminal(
    command: Sequence[str], *streams: str, cwd: Path | None = None, environ: Mapping[str, str]
) -> Iterator[Session]:
    """Run a program within the block, with a terminal in place of these streams.

    If these are all, it is the controlling terminal of the program, whose Ctrl-C key works.
    """
    # A function between fork and exec could wait for a lock of another thread, for ever.
    prefix = ("setsid", "--ctty") if set(streams) == set(ALL) else ()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*prefix, *command],
        cwd=cwd,
        env={**os.environ, **environ},
        stdin=theirs if "stdin" in streams else None,
        stdout=theirs if "stdout" in streams else None,
        stderr=theirs if "stderr" in streams else None,
    ) as process:
        os.close(theirs)
        try:
            yield Session(process, ours)
        finally:
            process.kill()
            os.close(ours)

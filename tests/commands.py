"""Commands of captiond in the test's own process, which saves the second that their imports take.

They are for commands that start no process and change nothing in their own: `db`, `tasks`, `keys`,
`check`, `config`, `caption`, and `tags` with a wrong argument. Each of these is also run as a
program by a test, with `tests.service.captiond`.
"""

import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from captiond.cli.main import run


def command(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a captiond command in the folder `cwd`, and return its exit status and its output."""
    out, err = StringIO(), StringIO()
    os.umask(umask := os.umask(0))
    with (
        patch.object(sys, "argv", ["captiond", *arguments]),
        patch.dict(os.environ, environ),
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        status = exit_status()
        os.umask(umask)  # commands make files that only their owner can read
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def exit_status() -> int:
    """Run the command of `sys.argv`; typer exits by itself for a wrong argument."""
    try:
        return run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1

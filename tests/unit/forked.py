"""Children that are forked from the test's own process."""

import os
import signal

from tests.service import wait_for


def exit_code_of(child: int) -> int:
    """Wait for a child, and return its exit code, which is negative for a signal.

    The test's process has threads of libraries, whose locks a fork copies. So a child may wait for
    ever, and is killed then.
    """
    statuses: list[int] = []

    def ended() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            statuses.append(status)
        return pid != 0

    try:
        wait_for(ended, "the end of a forked child")
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(statuses[0])

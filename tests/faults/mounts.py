"""Services with mounts of their own, so that a test can make a file system read-only for them."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE

AS_ROOT = ("unshare", "--mount")
AS_USER = ("unshare", "--user", "--map-root-user", "--mount")
# What follows the command in the shell's arguments starts the service.
START = 'exec "$0" "$@"'


def own_mounts(script: str) -> tuple[str, ...]:
    """Return a prefix that runs a shell script, then the service, with mounts of their own.

    The test is skipped where the kernel does not allow that.
    """
    unshare = AS_ROOT if os.geteuid() == 0 else AS_USER
    if (
        subprocess.run(
            [*unshare, "true"], capture_output=True, check=False, timeout=PATIENCE
        ).returncode
        != 0
    ):
        pytest.skip("this machine does not allow namespaces for mounts")
    return (*unshare, "bash", "-c", f"set -e; {script} {START}")


def mount_in(pid: int, script: str) -> None:
    """Run a shell script with the mounts of a process."""
    user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
    command = ["nsenter", "--target", str(pid), *user, "--mount", "bash", "-c", f"set -e; {script}"]
    subprocess.run(command, check=True, timeout=PATIENCE)


def read_only(folder: Path | str) -> str:
    """Return the script that makes a folder read-only, as long as nothing in it is being written.

    A second mount lies over it, because the kernel refuses to change one with open files.
    """
    return f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder};"


def writable_again(folder: Path) -> str:
    """Return the script that undoes `read_only`."""
    return f"umount --lazy {folder};"

"""Run a program in the root file system of an image, without a container engine.

The program gets the environment and the user of the image, mount and process namespaces of its own,
and the network of this machine. This takes root. Nothing is mounted outside of the namespace.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

IN_NAMESPACE = "CAPTIOND_IMAGE_NAMESPACE"  # set in the namespace that `enter_namespace` makes
STOP_SECONDS = 60


def enter_namespace() -> None:
    """Run this program again in a mount namespace of its own, unless it already does.

    What buildah and debootstrap mount then disappears with the program, also if it is killed.
    """
    if IN_NAMESPACE not in os.environ:
        environ = {**os.environ, IN_NAMESPACE: "1"}
        command = ["unshare", "--mount", sys.executable, *sys.orig_argv[1:]]
        os.execvpe(command[0], command, environ)


def buildah(*arguments: str) -> str:
    """Run a command of buildah, and return what it prints."""
    done = subprocess.run(["buildah", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


@dataclass(frozen=True)
class Image:
    """An image: its configuration as Docker has it, and the folder of its root file system."""

    config: Mapping[str, Any]
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"])

    @property
    def user(self) -> str:
        """Return the user and the group of the image as numbers: `10001:10001`."""
        lines = (self.root / "etc/passwd").read_text().splitlines()
        users = {line.split(":")[0]: line.split(":")[2:4] for line in lines}
        return ":".join(users[self.config["User"]])

    @property
    def command(self) -> list[str]:
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def health_command(self) -> list[str]:
        """Return the command of HEALTHCHECK."""
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD", kind
        return list(command)


@contextlib.contextmanager
def unpacked(name: str) -> Iterator[Image]:
    """Unpack an image while the block runs."""
    container = buildah("from", "--pull-never", name)
    try:
        config = json.loads(buildah("inspect", "--type", "container", container))
        yield Image(config["Docker"]["config"], Path(buildah("mount", container)))
    finally:
        buildah("rm", container)


@dataclass(frozen=True)
class Container:
    """How programs run in an image. `data` is the volume at /data.

    With `read_only`, the root file system cannot be written. With `temporary`, there is a /tmp in
    memory.
    """

    image: Image
    data: Path
    read_only: bool = False
    temporary: bool = True
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, program: list[str]) -> list[str]:
        """Return a command that runs a program in the container."""
        root = shlex.quote(str(self.image.root))
        variables = {**self.image.environment, **self.environment}
        mounts = [
            "mount --make-rprivate /",
            f"mount --bind {root} {root}",
            f"mount --bind {shlex.quote(str(self.data))} {root}/data",
            f"mount --rbind /dev {root}/dev",
            f"mount -t proc proc {root}/proc",
            f"mount --bind /etc/resolv.conf {root}/etc/resolv.conf",
        ]
        if self.temporary:
            mounts.append(f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp")
        if self.read_only:
            mounts.append(f"mount -o remount,bind,ro {root}")
        inside = ["env", "-i", "-C", "/data", *(f"{key}={variables[key]}" for key in variables)]
        user = self.user or self.image.user
        change = f"exec chroot --userspec={user} {root} {shlex.join([*inside, *program])}"
        script = " && ".join([*mounts, change])
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script]

    def run(self, *program: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, and return its output."""
        command = self.command(list(program))
        return subprocess.run(command, capture_output=True, text=True, check=False)

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run the image's own command while the block runs, then stop it as an engine does."""
        with log.open("ab") as output:
            outside = subprocess.Popen(self.command(self.image.command), stderr=output)
        try:
            yield outside
            for first in psutil.Process(outside.pid).children():
                first.send_signal(signal.SIGTERM)
            outside.wait(STOP_SECONDS)
        finally:
            outside.kill()
            outside.wait()

"""A captiond service with a model of random weights, and what its processes do under a load.

This is the only module of `tools.gpu` that starts captiond and reads how its model waits.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from captiond.bench.load import ServiceProcess, running, spent, tree
from captiond.bench.run import NEW_TOKENS

TICK = os.sysconf("SC_CLK_TCK")
TOML = """\
[server]
workers = {workers}
[model]
name = "{model}"
fallback = ""
device = "{device}"
precision = "bf16"
batch_size = {batch_size}
standby = false
[images]
jpeg_draft = {jpeg_draft}
gpu_resize = {gpu_resize}
[generation]
max_new_tokens = {tokens}
[captions]
finish_tokens = 0
[cache]
enabled = false
[logs]
level = "info"
format = "json"
"""


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of a service that matter here; `model` is a folder."""

    model: Path
    device: str
    workers: int
    batch_size: int
    jpeg_draft: bool
    gpu_resize: bool

    def __str__(self) -> str:
        parts = [f"{self.workers} web processes"]
        parts += ["JPEGs as drafts"] * self.jpeg_draft + ["decoders resize"] * (not self.gpu_resize)
        return ", ".join(parts)

    def toml(self) -> str:
        return TOML.format(
            workers=self.workers,
            model=self.model.absolute(),
            device=self.device,
            batch_size=self.batch_size,
            jpeg_draft=str(self.jpeg_draft).lower(),
            gpu_resize=str(self.gpu_resize).lower(),
            tokens=NEW_TOKENS,
        )


@contextmanager
def serving(setup: Setup, folder: Path) -> Iterator[ServiceProcess]:
    """A service that is ready; it has ended when the block is left.

    Raises:
        StartupError: it does not get ready; the message has the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "captiond.toml"
    config.write_text(setup.toml())
    with running(config, 1) as service:
        yield service


class Waiting:
    """What the model of a service has waited for since this was made."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service, self._begun = service, time.monotonic()
        self._before = service.metrics()

    def parts(self) -> dict[str, float]:
        """Return the parts of the model's time that it waited, by cause, the largest first."""
        after = self._service.metrics()
        busy, idle = spent(self._before, after, time.monotonic() - self._begun)
        whole = busy + sum(idle.values())
        if not whole:
            return {}
        ordered = sorted(idle.items(), key=lambda item: item[1], reverse=True)
        return {cause: round(seconds / whole, 4) for cause, seconds in ordered}


class Cores:
    """How many cores each kind of a service's processes has kept busy since this was made.

    The supervisor starts web and model processes; those that a model process starts decode.
    """

    def __init__(self, service: ServiceProcess) -> None:
        self._root = service.process.pid
        self._before = used(self._root)

    def busy(self, seconds: float) -> dict[str, float]:
        """Return the cores of each kind, of a load of so many seconds."""
        after, parents = used(self._root), parents_of(self._root)
        having = set(parents.values())
        found = Counter[str]()
        for pid, ticks in after.items():
            kind = kind_of(pid, self._root, parents, having)
            found[kind] += ticks - self._before.get(pid, 0)
        return {kind: round(ticks / TICK / seconds, 2) for kind, ticks in found.items()}


def kind_of(pid: int, root: int, parents: dict[int, int], having: set[int]) -> str:
    """Return a process's kind, by its place in the tree and whether it has children."""
    if pid == root:
        return "supervisor"
    if parents.get(pid) != root:
        return "decoders"
    return "model" if pid in having else "web"


def used(root: int) -> dict[int, int]:
    """Return the clock ticks of processor time that each process of a tree has used (proc(5))."""
    return {pid: ticks for pid in tree(root) if (ticks := ticks_of(pid)) is not None}


def ticks_of(pid: int) -> int | None:
    fields = stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else None


def parents_of(root: int) -> dict[int, int]:
    return {pid: int(fields[1]) for pid in tree(root) if (fields := stat(pid))}


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; none for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []

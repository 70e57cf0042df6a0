"""The limits of this process's control groups: processor time and memory, versions 1 and 2.

A container, a pod and a systemd service are control groups. Neither the CPU affinity nor proc(5)
shows what they may use. A group cannot use more than the groups above it, so each group from that
of the process up to the root of the mounted hierarchy counts. A machine may have both versions at
once, with some controllers in each. The files are described in the kernel's documentation:
admin-guide/cgroup-v1 and admin-guide/cgroup-v2.rst.

`root` is the root of the file system, which tests replace.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
UNLIMITED = 1 << 62  # version 1 has a number near 2^63 for a group without a limit
OCTAL = re.compile(r"\\(\d{3})")  # how proc(5) writes a space in a path


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy of groups: its root group, its folder, and the controllers it has.

    The unified hierarchy of version 2 names no controllers.
    """

    group: PurePosixPath
    folder: Path
    controllers: frozenset[str]


def cpu_quota(root: Path = ROOT) -> float:
    """Return how many processors' time the groups may use, or infinity without a quota."""
    return min(map(group_quota, folders("cpu", root)), default=math.inf)


def memory_limit(root: Path = ROOT) -> int:
    """Return how many bytes the groups may use, or UNLIMITED."""
    return min(map(group_memory, folders("memory", root)), default=UNLIMITED)


def memory_left(root: Path = ROOT) -> int:
    """Return how many bytes the groups may still use, or UNLIMITED."""
    return min(map(group_memory_left, folders("memory", root)), default=UNLIMITED)


# ---------------------------------------------------------------- one group


def group_quota(folder: Path) -> float:
    """Return the quota of a group in processors."""
    match words(folder / "cpu.max"):
        case [quota, period] if quota != "max":
            return int(quota) / int(period)
    match words(folder / "cpu.cfs_quota_us"), words(folder / "cpu.cfs_period_us"):
        case [quota], [period] if int(quota) > 0:
            return int(quota) / int(period)
    return math.inf


def group_memory(folder: Path) -> int:
    """Return the limit of a group. Above memory.high, its processes are slowed down and reclaim."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    limits = (text for name in names for text in words(folder / name))
    return min((int(text) for text in limits if text.isdigit()), default=UNLIMITED)


def group_memory_left(folder: Path) -> int:
    limit = group_memory(folder)
    return UNLIMITED if limit >= UNLIMITED else max(0, limit - group_memory_used(folder))


def group_memory_used(folder: Path) -> int:
    """Return what a group uses, without the pages of files that the kernel can drop at once."""
    used = words(folder / "memory.current") or words(folder / "memory.usage_in_bytes")
    statistics = words(folder / "memory.stat")
    values = dict(zip(statistics[::2], statistics[1::2], strict=False))
    dropped = values.get("total_inactive_file", values.get("inactive_file", "0"))
    return max(0, int(used[0]) - int(dropped)) if used else 0


def words(file: Path) -> list[str]:
    """Return the words in a file, or none if it cannot be read: a root group has no limits."""
    try:
        return file.read_text().split()
    except OSError:
        return []


# ---------------------------------------------------------------- the groups of this process


def folders(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the groups that a controller applies to this process."""
    groups = own_groups(root)
    for hierarchy in hierarchies(root):
        key = controller if hierarchy.controllers else ""
        if key in groups and (not key or key in hierarchy.controllers):
            inside = below(groups[key], hierarchy.group)
            yield hierarchy.folder / inside
            yield from (hierarchy.folder / parent for parent in inside.parents)


def below(group: PurePosixPath, top: PurePosixPath) -> PurePosixPath:
    """Return the path of a group from the top of a hierarchy.

    In a container without a namespace for groups, the names are those of the host, and only the
    group of the container is mounted. A group outside of what is mounted counts as its top.
    """
    if ".." in group.parts or not group.is_relative_to(top):
        return PurePosixPath()
    return group.relative_to(top)


def own_groups(root: Path) -> dict[str, PurePosixPath]:
    """Return the group of this process for each controller. The key "" is version 2."""
    groups: dict[str, PurePosixPath] = {}
    for line in lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), PurePosixPath(path)))
    return groups


def hierarchies(root: Path) -> Iterator[Hierarchy]:
    """Yield the mounted hierarchies of groups, as proc(5) describes mountinfo."""
    for line in lines(root / "proc/self/mountinfo"):
        mount, _, kind = line.partition(" - ")
        group, folder = map(unescaped, mount.split()[3:5])
        filesystem, *_, options = kind.split()
        if filesystem in {"cgroup", "cgroup2"}:
            names = options.split(",") if filesystem == "cgroup" else ()
            yield Hierarchy(PurePosixPath(group), root / folder.lstrip("/"), frozenset(names))


def unescaped(path: str) -> str:
    return OCTAL.sub(lambda match: chr(int(match[1], 8)), path)


def lines(file: Path) -> list[str]:
    """Return the lines of a file, or none where there is no proc(5)."""
    try:
        return file.read_text().splitlines()
    except OSError:
        return []

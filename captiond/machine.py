"""The memory of this machine, or of the container that captiond runs in (cgroup v2)."""

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 62


def available_bytes() -> int:
    """Return how much memory can still be used."""
    return min(meminfo("MemAvailable", "SC_AVPHYS_PAGES"), cgroup_bytes())


def total_bytes() -> int:
    """Return how much memory there is."""
    return min(meminfo("MemTotal", "SC_PHYS_PAGES"), cgroup_limit())


def meminfo(key: str, name: str) -> int:
    """Return a value of proc(5)'s meminfo in bytes, or that of `name` in sysconf(3)."""
    for line in MEMINFO.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf(name)


def cgroup_limit() -> int:
    """Return the limit of the container; UNLIMITED without one."""
    try:
        most = (CGROUP / "memory.max").read_text().strip()
    except OSError:
        return UNLIMITED
    return int(most) if most.isdigit() else UNLIMITED


def cgroup_bytes() -> int:
    """Return how much memory the container may still use; UNLIMITED without a limit."""
    try:
        used = int((CGROUP / "memory.current").read_text())
    except OSError:
        return UNLIMITED
    return max(0, cgroup_limit() - used)

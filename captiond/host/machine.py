"""The processors and the memory that this process may use: those of the machine, or fewer."""

import ctypes
import os
from pathlib import Path

from captiond.host import cgroups

MEMINFO = Path("/proc/meminfo")
CPUINFO = Path("/proc/cpuinfo")
CPUS = Path("/sys/devices/system/cpu")


def available_bytes() -> int:
    """Return how much memory can still be used."""
    return min(meminfo("MemAvailable", "SC_AVPHYS_PAGES"), cgroups.memory_left())


def total_bytes() -> int:
    """Return how much memory there is."""
    return min(meminfo("MemTotal", "SC_PHYS_PAGES"), cgroups.memory_limit())


def trim_heap() -> None:
    """Return free pages to the operating system, if the C library has glibc's malloc_trim(3)."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def processor() -> tuple[str, frozenset[str]]:
    """Return the name of the processor and its flags, as proc(5) has them; empty if it does not."""
    pairs = (line.partition(":") for line in CPUINFO.read_text().splitlines())
    lines = {name.strip(): value.strip() for name, _, value in pairs}
    return lines.get("model name", ""), frozenset(lines.get("flags", "").split())


def usable_cores() -> int:
    """Return how many processors' time this process may use, at least 1.

    A quota of control groups is no affinity: with more threads than the quota, the kernel stops all
    of them for a part of each period. A part of a processor is left to the other processes.
    """
    return max(1, int(min(len(os.sched_getaffinity(0)), cgroups.cpu_quota())))


def physical_cores() -> int:
    """Return how many cores this process may use, without their second hardware threads."""
    cores = {siblings(thread) for thread in os.sched_getaffinity(0)}
    return min(len(cores), usable_cores())


def siblings(thread: int) -> str:
    """Return the hardware threads of a core, as sysfs lists them; the thread itself if not."""
    try:
        return (CPUS / f"cpu{thread}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(thread)


def meminfo(key: str, name: str) -> int:
    """Return a value of proc(5)'s meminfo in bytes, or that of `name` in sysconf(3)."""
    for line in MEMINFO.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf(name)

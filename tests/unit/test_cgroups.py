"""What control groups leave to this process, on machines whose files a test writes."""

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from captiond.decoding.budget import budget_bytes
from captiond.decoding.pool import decoder_count
from captiond.host import cgroups, machine
from captiond.host.cgroups import UNLIMITED, cpu_quota, memory_left, memory_limit
from captiond.settings.config import ModelSettings, Settings
from captiond.worker.threads import threads_of

GIB, MIB = 1 << 30, 1 << 20
NO_LIMIT = "9223372036854771712\n"
UNIFIED = "30 23 0:26 {group} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
CPU = "31 24 0:27 {group} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "32 24 0:28 {group} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"


def machine_with(
    root: Path, *, groups: str, mounts: list[str], files: Mapping[str, str], top: str = "/"
) -> Path:
    """Write the files of a machine. `top` is the group that is mounted as the root."""
    mountinfo = "".join(f"{mount.format(group=top)}\n" for mount in mounts)
    written = {"proc/self/cgroup": groups, "proc/self/mountinfo": mountinfo}
    for name, text in {
        **written,
        **{f"sys/fs/cgroup/{path}": files[path] for path in files},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def version_2(root: Path, files: Mapping[str, str], group: str = "/", top: str = "/") -> Path:
    return machine_with(root, groups=f"0::{group}\n", mounts=[UNIFIED], files=files, top=top)


def version_1(root: Path, files: Mapping[str, str], group: str = "/", top: str = "/") -> Path:
    groups = f"4:memory:{group}\n3:cpu,cpuacct:{group}\n1:name=systemd:/\n0::/\n"
    return machine_with(root, groups=groups, mounts=[CPU, MEMORY], files=files, top=top)


def test_no_groups_are_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf
    assert memory_limit(tmp_path) == memory_left(tmp_path) == UNLIMITED


def test_version_2(tmp_path: Path) -> None:
    root = version_2(
        tmp_path,
        {
            "cpu.max": "150000 100000\n",
            "memory.max": f"{GIB}\n",
            "memory.high": "max\n",
            "memory.current": f"{700 * MIB}\n",
            "memory.stat": f"anon {300 * MIB}\nfile {400 * MIB}\ninactive_file {200 * MIB}\n",
        },
    )
    assert cpu_quota(root) == 1.5
    assert memory_limit(root) == GIB
    assert memory_left(root) == GIB - 500 * MIB


def test_version_2_without_limits(tmp_path: Path) -> None:
    files = {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.current": "5\n"}
    root = version_2(tmp_path, files)
    assert cpu_quota(root) == math.inf
    assert memory_limit(root) == memory_left(root) == UNLIMITED


def test_version_1(tmp_path: Path) -> None:
    root = version_1(
        tmp_path,
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "memory/memory.usage_in_bytes": f"{GIB}\n",
            "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {100 * MIB}\n",
        },
    )
    assert cpu_quota(root) == 4
    assert memory_limit(root) == 2 * GIB
    assert memory_left(root) == GIB + 100 * MIB


def test_version_1_without_limits(tmp_path: Path) -> None:
    root = version_1(
        tmp_path,
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": NO_LIMIT,
            "memory/memory.usage_in_bytes": "1\n",
        },
    )
    assert cpu_quota(root) == math.inf
    assert memory_limit(root) >= UNLIMITED
    assert memory_left(root) == UNLIMITED


def test_both_versions_at_once(tmp_path: Path) -> None:
    """As systemd mounts them in its hybrid mode: the unified hierarchy has no controllers."""
    unified = UNIFIED.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    files = {
        "cpu,cpuacct/web/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/web/cpu.cfs_period_us": "100000\n",
        "unified/web/cgroup.procs": "",
    }
    groups = "3:cpu,cpuacct:/web\n0::/web\n"
    root = machine_with(tmp_path, groups=groups, mounts=[unified, CPU], files=files)
    assert cpu_quota(root) == 0.5


@pytest.mark.parametrize("kind", [version_1, version_2])
def test_the_strictest_group_above_the_process_counts(
    tmp_path: Path, kind: Callable[[Path, Mapping[str, str], str], Path]
) -> None:
    files = {
        "memory/a/memory.limit_in_bytes": f"{GIB}\n",
        "memory/a/memory.usage_in_bytes": f"{900 * MIB}\n",
        "memory/a/b/memory.limit_in_bytes": NO_LIMIT,
        "memory/a/b/memory.usage_in_bytes": f"{100 * MIB}\n",
        "a/memory.max": f"{GIB}\n",
        "a/memory.current": f"{900 * MIB}\n",
        "a/b/memory.max": "max\n",
        "a/b/memory.current": f"{100 * MIB}\n",
        "cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n",
        "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/a/b/cpu.cfs_quota_us": "800000\n",
        "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
        "a/cpu.max": "300000 100000\n",
        "a/b/cpu.max": "800000 100000\n",
    }
    root = kind(tmp_path, files, "/a/b")
    assert (cpu_quota(root), memory_limit(root), memory_left(root)) == (3, GIB, 124 * MIB)


@pytest.mark.parametrize(
    ("group", "top"),
    [
        ("/docker/1a2b", "/docker/1a2b"),  # the names are those of the host
        ("/", "/"),  # a namespace of its own
        ("/../../other", "/"),  # a process that was moved out of its namespace's root
        ("/user.slice", "/docker/1a2b"),
    ],
)
def test_the_group_of_a_container_is_what_is_mounted(tmp_path: Path, group: str, top: str) -> None:
    root = version_2(tmp_path, {"cpu.max": "200000 100000"}, group, top)
    assert cpu_quota(root) == 2


def test_memory_high_is_a_limit(tmp_path: Path) -> None:
    root = version_2(tmp_path, {"memory.max": f"{4 * GIB}\n", "memory.high": f"{GIB}\n"})
    assert memory_limit(root) == GIB


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    mount = UNIFIED.replace("/sys/fs/cgroup", r"/sys/fs/cgroup/my\040groups")
    files = {"my groups/cpu.max": "100000 100000"}
    assert cpu_quota(machine_with(tmp_path, groups="0::/\n", mounts=[mount], files=files)) == 1


# ---------------------------------------------------------------- what follows from it


@pytest.mark.parametrize(
    ("quota", "cores", "decoders"),
    [("50000", 1, 1), ("150000", 1, 1), ("250000", 2, 1), ("400000", 4, 3), ("max", 8, 7)],
)
def test_threads_and_decoders_follow_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int, decoders: int
) -> None:
    root = version_2(tmp_path, {"cpu.max": f"{quota} 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "meminfo", lambda *_: 64 * GIB)
    monkeypatch.setattr(machine, "CPUS", tmp_path)
    within(root, monkeypatch)
    assert threads_of(Settings()) == machine.usable_cores() == machine.physical_cores() == cores
    assert decoder_count(Settings()) == decoders
    two = Settings(model=ModelSettings(device="cpu,cpu"))
    assert threads_of(two) == max(1, cores // 2)


def test_decoders_and_batches_follow_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = version_2(tmp_path, {"memory.max": f"{2 * GIB}\n", "memory.current": f"{GIB}\n"})
    monkeypatch.setattr(machine, "meminfo", lambda *_: 64 * GIB)
    within(root, monkeypatch)
    assert machine.available_bytes() == GIB  # batches take a part of it
    assert machine.total_bytes() == 2 * GIB
    assert budget_bytes(0, 1) == GIB


def within(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let captiond see the groups of a machine that was written for this test."""
    for name in ("cpu_quota", "memory_limit", "memory_left"):
        monkeypatch.setattr(cgroups, name, partial(getattr(cgroups, name), root))

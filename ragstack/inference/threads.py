"""How many CPU cores this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores() -> int:
    """Cores of this process's affinity mask, capped by its cgroup's CPU quota; at least 1."""
    # macOS and Windows have no affinity call in the standard library.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cgroup_quota(membership: Path, mount: Path) -> float | None:
    """The smallest CPU quota, in cores, of the cgroup that ``membership`` names and its parents; None without one."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux, or /proc is hidden: there is no quota to find
        return None
    quotas: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount if not controllers else mount / controllers
        # Inside a container the path is often not visible below the mount, while the mount's root is our own group.
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            quotas += _quota_of(group)
            if group == root:
                break
    return min(quotas, default=None)


def _quota_of(group: Path) -> list[float]:
    try:
        if (group / "cpu.max").is_file():
            limit, _, period = (group / "cpu.max").read_text(encoding="utf-8").strip().partition(" ")
            return [] if limit == "max" else [int(limit) / int(period or 100_000)]
        if (group / "cpu.cfs_quota_us").is_file():
            limit = (group / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (group / "cpu.cfs_period_us").read_text(encoding="utf-8")
            return [int(limit) / int(period)] if int(limit) > 0 else []
    except (OSError, ValueError, ZeroDivisionError):  # an unreadable or odd file limits nothing that we can tell
        return []
    return []

"""How many CPUs this process may use: ``workers: auto``.

`usable_cpus` is a pure function over the texts of the kernel's files; `read_usable_cpus` reads them.
A container limited to two CPUs on a machine with 64 must not start 64 workers: they would be
throttled in turn, which shows as latency.
"""

import os
from pathlib import Path
from typing import Protocol


class ReadText(Protocol):
    """Returns a file's text, or None where it cannot be read."""

    def __call__(self, path: str, /) -> str | None: ...


def usable_cpus(affinity: int, cgroup: str | None, read: ReadText, root: str = "/sys/fs/cgroup") -> int:
    """The smaller of affinity and quota, at least 1.

    The quota of every ancestor counts, since the kernel enforces each of them. A quota of 1.5 CPUs
    gives 1: two workers on 1.5 CPUs are throttled every period.

    Args:
        affinity: CPUs the scheduler lets us run on.
        cgroup: text of ``/proc/self/cgroup``, or None.
        read: gives the text of files below ``root``.
        root: where cgroups are mounted.
    """
    quotas = []
    for line in (cgroup or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            quotas += [_quota_v2(read(f"{root}{place}/cpu.max")) for place in _ancestors(path)]
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                for place in _ancestors(path):
                    base = f"{root}/{mount}{place}"
                    quotas.append(
                        _quota_v1(read(f"{base}/cpu.cfs_quota_us"), read(f"{base}/cpu.cfs_period_us"))
                    )
    limits = [quota for quota in quotas if quota is not None]
    return max(1, int(min([float(affinity), *limits])))


def read_usable_cpus() -> int:
    """`usable_cpus` of this process, now."""
    return usable_cpus(len(os.sched_getaffinity(0)), _read("/proc/self/cgroup"), _read)


def _ancestors(path: str) -> list[str]:
    # "/a/b" -> "/a/b", "/a", "". In a container with its own cgroup namespace the path is "/", and the
    # limit stands at the root of the mount; without one the listed path may not exist below it.
    parts = [part for part in path.split("/") if part and part != ".."]
    return ["".join(f"/{part}" for part in parts[:end]) for end in range(len(parts), -1, -1)]


def _quota_v2(text: str | None) -> float | None:
    words = (text or "").split()
    if len(words) != 2 or words[0] == "max":
        return None
    return _share(words[0], words[1])


def _quota_v1(quota: str | None, period: str | None) -> float | None:
    return _share(quota.strip(), period.strip()) if quota and period else None


def _share(quota: str, period: str) -> float | None:
    # v1 writes -1 for "no limit"; isdigit() turns that and any garbage into None.
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None

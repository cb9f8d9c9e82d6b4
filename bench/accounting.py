"""CPU time used, from /proc and from control groups of version 1 and 2. What cannot be read is left out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_V1 = ("cpuacct/docker/{id}", "cpuacct/system.slice/docker-{id}.scope", "cpuacct/{id}")
_V2 = ("system.slice/docker-{id}.scope", "docker/{id}", "{id}")
#: Of all that happens on the machine, also what others ask of the daemon.
_DAEMON = frozenset({"dockerd", "containerd", "containerd-shim"})
_MS_PER_TICK = 1000 / os.sysconf("SC_CLK_TCK")
#: What processes have for themselves, and files that are in memory only: in version 1, and in version 2.
_MEMORY_V1, _MEMORY_V2 = ("total_rss", "total_shmem"), ("anon", "shmem")


def cgroups_ms(names: Iterable[str]) -> float | None:
    """Milliseconds that these containers (by full id) or groups (by path) have used; None if one cannot be read."""
    used = [_cgroup_ms(name) for name in names]
    return None if None in used else sum(ms for ms in used if ms is not None)


def _cgroup_ms(name: str) -> float | None:
    for place in _V1:
        if (text := _text(_CGROUP / place.format(id=name) / "cpuacct.usage")) is not None:
            return int(text) / 1e6
    for place in _V2:
        if (text := _text(_CGROUP / place.format(id=name) / "cpu.stat")) is not None:
            usage = next(line for line in text.splitlines() if line.startswith("usage_usec"))
            return int(usage.split()[1]) / 1e3
    return None


def _text(file: Path) -> str | None:
    """What is in it; None when there is no such file, or its group goes while it is read."""
    try:
        return file.read_text()
    except OSError:
        return None


def daemon_ms() -> float | None:
    """Milliseconds that dockerd, containerd and its shims have used; None if none of them can be seen."""
    used = daemons_ms()
    return sum(used.values()) if used else None


def daemons_ms() -> dict[str, float]:
    """The same by process id."""
    found = ((directory.name, *_process(directory)) for directory in Path("/proc").iterdir())
    return {name: ticks * _MS_PER_TICK for name, comm, ticks in found if comm in _DAEMON}


def process_ms(process: int) -> float:
    """Milliseconds that a process has used, user and system, all its threads; 0 for one that has gone."""
    return _process(Path(f"/proc/{process}"))[1] * _MS_PER_TICK


def machine_ms() -> float:
    """Milliseconds that all CPUs together were busy for this machine."""
    user, nice, system, _idle, _waiting, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) * _MS_PER_TICK


def cgroups_bytes(names: Iterable[str]) -> int | None:
    """Memory of containers (by full id) without page cache; None if one cannot be read."""
    used = [_cgroup_bytes(name) for name in names]
    return None if None in used else sum(size for size in used if size is not None)


def _cgroup_bytes(name: str) -> int | None:
    for root, wanted in ((_CGROUP / "memory", _MEMORY_V1), (_CGROUP, _MEMORY_V2)):
        for file in (root / place.format(id=name) / "memory.stat" for place in _V2):
            if (text := _text(file)) is not None:
                fields = dict(line.split() for line in text.splitlines())
                return sum(int(fields[field]) for field in wanted)
    return None


def _process(directory: Path) -> tuple[str, int]:
    """Name and clock ticks of a process; nothing for what is not one, or has gone."""
    try:
        head, _, tail = (directory / "stat").read_text().rpartition(")")
    except OSError:
        return "", 0
    name = head.partition("(")[2]
    fields = tail.split()
    # Fields 14 and 15 of proc(5); two of them are in the head.
    return (name, int(fields[11]) + int(fields[12])) if len(fields) > 12 else ("", 0)

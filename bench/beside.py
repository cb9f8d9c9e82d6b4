"""Puts the load generator where the containers of a bench are, for the scheduler.

A CPU is first shared out among groups of processes and then within each. The worker is a container beside Kafka, Redis
and the sandboxes, and clients are on other machines. A client that runs as a plain process belongs to the group of the
shell that started the bench: it then waits for its half of the machine behind all containers together, tens of
milliseconds at a time, whatever their weights are (measured with `perf sched`, of a worker).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from bench.docker_cli import docker

_TOP = Path("/sys/fs/cgroup")


class Beside:
    """Groups beside that of a container. Best effort: without root the process stays where it is."""

    def __init__(self, container: str) -> None:
        self._made: list[Path] = []
        self._parents: list[Path] = []
        with contextlib.suppress(OSError):
            pid = docker("inspect", "-f", "{{.State.Pid}}", container)
            self._parents = [place.parent for place in _cpu_groups(Path(f"/proc/{pid}/cgroup").read_text())]

    def put(self, name: str, pid: int) -> None:
        """A group of its own for this process."""
        for parent in self._parents:
            with contextlib.suppress(OSError):
                group = parent / name
                group.mkdir()
                self._made.append(group)
                (group / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the groups; their processes must have ended."""
        for group in self._made:
            with contextlib.suppress(OSError):
                group.rmdir()
        self._made.clear()


def _cpu_groups(text: str) -> list[Path]:
    """Where the groups of a process are that its CPU is shared out by, of cgroup version 1 or 2."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    v1 = [_TOP / names / path.lstrip("/") for _, names, path in lines if "cpu" in names.split(",")]
    return v1 or [_TOP / path.lstrip("/") for number, _, path in lines if number == "0"]

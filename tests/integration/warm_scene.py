"""What tests of warm interpreters look at from the host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from evalx.sandbox.runtime import SandboxRuntime


def host_pids(runtime: SandboxRuntime, image: str) -> tuple[int, int]:
    """The runner's and the interpreter's pid of the only idle container of an image, as the host sees them."""
    assert runtime._pool is not None
    (entry,) = runtime._pool._shelves[image].idle
    shown = subprocess.run(
        ["docker", "inspect", "--format", "{{.State.Pid}}", entry.container.id],
        check=True,
        capture_output=True,
        text=True,
    )
    runner = int(shown.stdout)
    (interpreter,) = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()
    return runner, int(interpreter)


def memory_of(pid: int) -> Iterator[bytes]:
    """All that a process has in memory, mapping by mapping."""
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if line.split()[1].startswith("r") and "[v" not in line:
                memory.seek(start)
                yield memory.read(end - start)


def names(pid: int, folder: str) -> set[str]:
    """What a folder of /proc shows of a process: its descriptors in `fd`, its threads in `task`."""
    return {entry.name for entry in Path(f"/proc/{pid}/{folder}").iterdir()}

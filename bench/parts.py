"""Where the CPU time and the memory of a stack go, by its parts.

A part is read where it is counted for itself: processes in /proc, containers in their control groups. Sandboxes are
retired and replaced meanwhile, so those that were there in the beginning are looked at again and again, and new ones in
the end. What is too short for that (``runc``), the kernel's own threads and what else the machine does is the rest: all
that its CPUs were busy, without what was read.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench import accounting
from bench.docker_cli import docker
from bench.driver import Load
from bench.outcome import Table
from bench.stack import Stack
from bench.worker import Worker
from evalx.sandbox.spec import LABEL_OWNER

REST = "the rest of the machine"
#: In the order in which they are shown.
PARTS = ("sandboxes", "worker", "Kafka", "Redis", "load generator", "Docker's daemons", REST)

#: Seconds between two looks at sandboxes, which may be retired while one measures: so much of the last one's is lost.
WATCH_S = 0.2

#: Milliseconds by part and by what it consists of.
Reading = Mapping[tuple[str, str], float]


class Parts:
    """The parts of a stack with one worker."""

    def __init__(self, stack: Stack, worker: Worker, load: Load) -> None:
        self._worker, self._load = worker, load
        self._services = dict(zip(("Kafka", "Redis"), stack.containers, strict=True))

    @contextlib.contextmanager
    def counted(self) -> Iterator[dict[str, float]]:
        """What it gives has the seconds of CPU by part once it has ended."""
        seconds: dict[str, float] = {}
        known = self._sandboxes()
        before = self._read(known)
        with _watched(known) as seen:
            yield seconds
        after = {**seen, **self._read(known)}
        # New sandboxes are looked for afterwards, or the daemon's work for that would be counted.
        seconds |= used(before, {**after, **_groups_ms("sandboxes", self._sandboxes() - known)})

    def memory_bytes(self) -> int | None:
        """Of worker, services and sandboxes, without page cache; None where control groups cannot be read."""
        containers = accounting.cgroups_bytes([*self._services.values(), *self._sandboxes()])
        return None if containers is None else containers + self._worker.resident_bytes

    def _sandboxes(self) -> set[str]:
        return set(docker("ps", "-q", "--no-trunc", "--filter", f"label={LABEL_OWNER}={self._worker.name}").split())

    def _read(self, sandboxes: Iterable[str]) -> Reading:
        reading = {
            (REST, ""): accounting.machine_ms(),
            ("worker", ""): self._worker.cpu_s * 1000,
            ("load generator", ""): accounting.process_ms(self._load.process_id),
            **{("Docker's daemons", name): ms for name, ms in accounting.daemons_ms().items()},
            **_groups_ms("sandboxes", sandboxes),
        }
        for part, container in self._services.items():
            reading |= _groups_ms(part, [container])
        return reading


@contextlib.contextmanager
def _watched(sandboxes: Iterable[str]) -> Iterator[Reading]:
    """The last that was seen of each, also of those that are gone by the end."""
    seen: dict[tuple[str, str], float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_S):
            seen.update(_groups_ms("sandboxes", sandboxes))

    thread = threading.Thread(target=watch, name="sandboxes' CPU", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _groups_ms(part: str, containers: Iterable[str]) -> dict[tuple[str, str], float]:
    """What can be read of the containers' CPU; what cannot counts as the rest."""
    found = {(part, name): accounting.cgroups_ms([name]) for name in containers}
    return {place: ms for place, ms in found.items() if ms is not None}


def used(before: Reading, after: Reading) -> dict[str, float]:
    """Seconds by part in between; what is new has used all that it has."""
    seconds = dict.fromkeys(PARTS, 0.0)
    for (part, name), ms in after.items():
        seconds[part] += (ms - before.get((part, name), 0.0)) / 1000
    seconds[REST] = max(0.0, seconds[REST] - own_s(seconds))
    return seconds


def own_s(seconds: Mapping[str, float]) -> float:
    """All parts but the rest, which may be others'."""
    return sum(value for part, value in seconds.items() if part != REST)


def as_table(runs: Sequence[Mapping[str, float]], tests: int) -> Table:
    """Seconds of each run, and the mean of all by test and in hundredths."""
    mean = {part: sum(run[part] for run in runs) / len(runs) for part in PARTS}
    rows = [(part, [run[part] for run in runs], mean[part]) for part in PARTS]
    rows.append(("all CPUs", [sum(run.values()) for run in runs], sum(mean.values())))
    return Table(
        title="Where the CPU goes: seconds of CPU in each run",
        head=["part", *(f"run {number + 1}" for number in range(len(runs))), "ms a test", "share"],
        rows=[
            [part, *(f"{s:.2f}" for s in seconds), f"{middle * 1000 / tests:.3f}", f"{middle / sum(mean.values()):.0%}"]
            for part, seconds, middle in rows
        ],
    )

"""Where the CPU time and the memory of a stack go, by its parts.

A part is read where it is counted for itself: processes in /proc, containers in their control groups. What comes and
goes while one looks (sandboxes that are retired, ``runc``, the kernel's own threads) and what else the machine does is
the rest: all that its CPUs were busy, without what was read. On a machine that is otherwise idle the rest is the
stack's as well, so that the parts add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench import accounting
from bench.docker_cli import docker
from bench.driver import Load
from bench.outcome import Table
from bench.stack import Stack, Worker
from evalx.sandbox.container import LABEL_OWNER

REST = "the rest of the machine"
#: In the order in which they are shown.
PARTS = ("sandboxes", "worker", "Kafka", "Redis", "load generator", "Docker's daemons", REST)

#: Milliseconds by part and by what it consists of.
Reading = Mapping[tuple[str, str], float]


class Parts:
    """The parts of a stack with one worker."""

    def __init__(self, stack: Stack, worker: Worker, load: Load) -> None:
        self._worker, self._load = worker, load
        self._services = dict(zip(("Kafka", "Redis"), stack.containers, strict=True))
        self._known: set[str] = set()
        self._before: Reading = {}

    def start(self) -> None:
        """From here on `used_s` counts."""
        self._known = self._sandboxes()
        self._before = self._read()

    def used_s(self) -> dict[str, float]:
        """Seconds of CPU by part, since `start`."""
        # New sandboxes are looked for afterwards, or the daemon's work for that would be counted.
        after = self._read()
        return used(self._before, {**after, **_groups_ms("sandboxes", self._sandboxes() - self._known)})

    def memory_bytes(self) -> int | None:
        """Of worker, services and sandboxes, without page cache; None where control groups cannot be read."""
        containers = accounting.cgroups_bytes([*self._services.values(), *self._sandboxes()])
        return None if containers is None else containers + self._worker.resident_bytes

    def _sandboxes(self) -> set[str]:
        return set(docker("ps", "-q", "--no-trunc", "--filter", f"label={LABEL_OWNER}={self._worker.name}").split())

    def _read(self) -> Reading:
        reading = {
            (REST, ""): accounting.machine_ms(),
            ("worker", ""): self._worker.cpu_s * 1000,
            ("load generator", ""): accounting.process_ms(self._load.process_id),
            **{("Docker's daemons", name): ms for name, ms in accounting.daemons_ms().items()},
            **_groups_ms("sandboxes", self._known),
        }
        for part, container in self._services.items():
            reading |= _groups_ms(part, [container])
        return reading


def _groups_ms(part: str, containers: Iterable[str]) -> dict[tuple[str, str], float]:
    """What can be read of the containers' CPU; what cannot counts as the rest."""
    found = {(part, name): accounting.cgroups_ms([name]) for name in containers}
    return {place: ms for place, ms in found.items() if ms is not None}


def used(before: Reading, after: Reading) -> dict[str, float]:
    """Seconds by part in between; what is new has used all that it has, what is gone took its figure along."""
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

"""How fast and how cheap cached answers are: Kafka to Kafka, through real workers, Redis and sandboxes.

``python -m bench.cache`` from the project's root. It starts a Kafka, a Redis and workers of its own; the load comes
from another process. Exit code 0 whatever the figures, 1 when a verdict was wrong, 2 when it cannot run.

Latencies and rates are those of this machine, load generator and broker included; run it on one that does nothing else.
The worker's CPU time is read from the kernel and depends far less on what else runs.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import machine
from bench.command import conclude, positive, say
from bench.docker_cli import docker
from bench.driver import Load
from bench.load import BATCH_BYTES, TESTS, Batch
from bench.report import table, verdict
from bench.stack import Stack
from bench.worker import Worker
from evalx.languages import Registry
from evalx.settings import Settings

#: Different batches that are asked for again and again.
KNOWN = 200
#: Submissions in progress at a time when the worker is to have as much as it can do.
AT_ONCE = 500
#: What the issue that asked for the bench wants.
P50_MS, P99_MS, RATE, CPU_MS, HIT_RATE = 10.0, 30.0, 1000.0, 1.0, 0.8


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, each run, and whether the median is what is wanted."""

    name: str
    unit: str
    wanted: str
    runs: list[float]
    holds: bool

    @property
    def median(self) -> float:
        """The middle one of the runs."""
        return statistics.median(self.runs)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    machine: dict[str, str]
    figures: list[Figure]


class Bench:
    """One run of the bench."""

    def __init__(self, options: argparse.Namespace, image_prefix: str) -> None:
        self._options = options
        self._images = image_prefix
        self.wrong = 0

    def run(self) -> list[Figure]:
        """Every figure."""
        with Stack(self._images) as stack, Load(stack) as load:
            worker = stack.start_worker()
            load.send(numbered(range(KNOWN)), at_once=8)
            figures = self._idle(load)
            figures += self._busy(load, worker)
            figures += self._after_restart(stack, load)
            figures.append(self._repeats(load))
            stack.start_worker()
            figures.append(self._at_the_same_time(load))
            self.wrong = load.wrong
        return figures

    def _repeat(self, one: Callable[[int], Any]) -> list[Any]:
        return [one(number) for number in range(self._options.repeats)]

    def _idle(self, load: Load) -> list[Figure]:
        """One batch after another."""
        say("one after another")
        count = self._options.singles
        runs = self._repeat(lambda _: sorted(load.send(known(count), at_once=1).latencies_s))
        p50 = [1000 * statistics.median(run) for run in runs]
        p99 = [1000 * run[min(count - 1, int(count * 0.99))] for run in runs]
        return [
            _below("cached batch, Kafka to Kafka, p50", "ms", p50, P50_MS),
            _below("cached batch, Kafka to Kafka, p99", "ms", p99, P99_MS),
        ]

    def _busy(self, load: Load, worker: Worker, where: str = "") -> list[Figure]:
        """As many as the worker can take."""
        say(f"as many as it can{where}")
        rates, cpu = [], []
        for _ in range(self._options.repeats):
            before = worker.cpu_s
            done = load.send(known(self._options.batches), at_once=AT_ONCE)
            rates.append(self._options.batches / done.seconds)
            cpu.append(1000 * (worker.cpu_s - before) / self._options.batches)
        return [
            _above(f"cached batches a second of one worker{where}", "/s", rates, RATE),
            _below(f"worker's CPU time of a cached batch{where}", "ms", cpu, CPU_MS),
        ]

    def _after_restart(self, stack: Stack, load: Load) -> list[Figure]:
        """A worker that knows nothing itself: what it answers, Redis has told it."""
        stack.stop_workers()
        return self._busy(load, stack.start_worker(), ", known to Redis alone at first")

    def _repeats(self, load: Load) -> Figure:
        """Four of five submissions were seen before, in any order."""
        say("80 % repeats")
        count = self._options.mixed

        def one(number: int) -> float:
            dice = random.Random(number)
            fresh = range(10_000 * (number + 1), 10_000 * (number + 1) + count // 5)
            batches = [*fresh, *dice.choices(fresh, k=count - len(fresh))]
            dice.shuffle(batches)
            done = load.send(numbered(batches), at_once=50)
            return float(1 - done.sources.get("executed", 0) / count)

        return _above("hit rate with 80 % repeats", "", self._repeat(one), HIT_RATE)

    def _at_the_same_time(self, load: Load) -> Figure:
        """Two workers are given the same batch by many at once."""
        say("identical at the same time")

        def one(number: int) -> float:
            count = self._options.identical
            done = load.send(numbered([1_000_000 + number] * count), at_once=count)
            return float(done.sources.get("executed", 0))

        runs = self._repeat(one)
        name = f"runs of {self._options.identical} identical batches at two workers"
        return Figure(name=name, unit="", wanted="1", runs=runs, holds=max(runs) == 1)


def numbered(seeds: Iterable[int]) -> list[Batch]:
    """Batches of one program, told apart by their inputs."""
    return [Batch(seed) for seed in seeds]


def known(count: int) -> list[Batch]:
    """So many of those that were sent before."""
    return numbered(number % KNOWN for number in range(count))


def _below(name: str, unit: str, runs: list[float], limit: float) -> Figure:
    return Figure(name=name, unit=unit, wanted=f"< {limit:g} {unit}", runs=runs, holds=statistics.median(runs) < limit)


def _above(name: str, unit: str, runs: list[float], limit: float) -> Figure:
    wanted = f">= {limit:g} {unit}".strip()
    return Figure(name=name, unit=unit, wanted=wanted, runs=runs, holds=statistics.median(runs) >= limit)


def as_markdown(facts: dict[str, str], figures: Sequence[Figure]) -> str:
    """The report for people."""
    head = ["figure", "wanted", "each run", "median", ""]
    rows = [
        [one.name, one.wanted, " ".join(map(show, one.runs)), f"{show(one.median)} {one.unit}", verdict(one.holds)]
        for one in figures
    ]
    about = (
        f"Batches of {TESTS} tests and {BATCH_BYTES:,} bytes; rates and latencies include broker and load generator."
    )
    return "\n\n".join([table(["", ""], [list(fact) for fact in facts.items()]), about, table(head, rows)]) + "\n"


def show(value: float) -> str:
    """Three digits are enough, and more of a large number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def facts_of(stack_images: str) -> dict[str, str]:
    """Where and with what the figures were made."""
    facts = machine.describe(stack_images, [], None)
    facts.pop("go-judge", None)
    facts["redis"] = docker("run", "--rm", "--entrypoint", "redis-server", f"{stack_images}redis", "--version")
    facts["c"] = Registry.load().resolve("c").title
    return facts


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process for --help and for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cache",
        description="Latency, rate, CPU time and hit rate of cached answers, Kafka to Kafka.",
        epilog="Example: python -m bench.cache --repeats 3 --json figures.json",
    )
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="runs of each figure (default: 5)")
    parser.add_argument("--singles", type=positive, default=300, metavar="N", help="batches one after another")
    parser.add_argument("--batches", type=positive, default=5000, metavar="N", help="batches as fast as can be")
    parser.add_argument("--mixed", type=positive, default=500, metavar="N", help="batches, 80 %% of them repeats")
    parser.add_argument("--identical", type=positive, default=500, metavar="N", help="identical batches at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print the report; the exit code."""
    options = parse(arguments)
    images = Settings.load().image_prefix
    bench = Bench(options, images)
    return conclude(
        lambda: Report(machine=facts_of(images), figures=bench.run()),
        lambda report: as_markdown(report.machine, report.figures),
        options.json,
        wrong=lambda _: bench.wrong,
    )


if __name__ == "__main__":
    sys.exit(main())

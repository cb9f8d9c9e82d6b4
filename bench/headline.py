"""The headline: 1,000 batches of 20 distinct tests, C and C++, through Kafka, with nothing known but the toolchain.

``python -m bench.headline`` from the project's root. It starts a Kafka, a Redis and a worker of its own; the load comes
from another process. Each run has sources of its own, compiled in the run; results are not cached. Exit code 0 whatever
the figures, 1 when a verdict was wrong, 2 when it cannot run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import machine, workload
from bench.driver import Load
from bench.load import PARTITIONS, TESTS, Batch
from bench.report import table, verdict
from bench.sandbox import EXIT_FAILED, EXIT_STOPPED, EXIT_WRONG, positive, say
from bench.stack import Stack, Worker
from evalx.errors import EvalxError
from evalx.languages import Registry
from evalx.settings import Settings

LANGUAGES = ("c", "cpp-17")
#: Sources in all, as many of each language.
SOURCES = 8
#: Seconds that the issue which asked for the bench grants.
MOST_S = 5.0
#: The worker must not know a test or a batch from before; the sources are new in each run.
NOTHING_KNOWN = {"result_cache": False, "test_cache": False, "single_flight": False}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run: seconds from the first send to the last result, those of the worker's CPU, and its memory afterwards."""

    seconds: float
    worker_cpu_s: float
    worker_bytes: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    machine: dict[str, str]
    batches: int
    runs: list[Run]
    wrong: int

    @property
    def median_s(self) -> float:
        """The middle one of the runs."""
        return statistics.median(run.seconds for run in self.runs)


def make_batches(count: int, number: int) -> list[Batch]:
    """The batches of a run: the sources in turn, every test another one than all others of all runs."""
    each = SOURCES // len(LANGUAGES)
    sources = [(language, SOURCES * number + variant) for variant in range(each) for language in LANGUAGES]
    batches = []
    for place in range(count):
        language, variant = sources[place % len(sources)]
        batches.append(Batch(count * number + place, language, variant))
    return batches


def measure(load: Load, worker: Worker, count: int, number: int) -> Run:
    """Send all at once and wait for all results."""
    say(f"run {number + 1}")
    batches = make_batches(count, number)
    before = worker.cpu_s
    done = load.send(batches, at_once=count, partitions=range(PARTITIONS))
    return Run(seconds=done.seconds, worker_cpu_s=worker.cpu_s - before, worker_bytes=worker.resident_bytes)


def as_markdown(report: Report) -> str:
    """The report for people."""
    facts = table(["", ""], [list(fact) for fact in report.machine.items()])
    tests = report.batches * TESTS
    head = ["run", "s", "tests a second", "worker's CPU", "worker's memory"]
    rows = [
        [
            str(number),
            f"{run.seconds:.2f}",
            f"{tests / run.seconds:,.0f}",
            f"{run.worker_cpu_s:.2f} s",
            f"{run.worker_bytes / 1e6:.0f} MB",
        ]
        for number, run in enumerate(report.runs, 1)
    ]
    median = f"Median: {report.median_s:.2f} s for {tests:,} tests; wanted < {MOST_S:g} s: "
    return "\n\n".join([facts, table(head, rows), median + verdict(report.median_s < MOST_S)]) + "\n"


def run(options: argparse.Namespace, images: str) -> Report:
    """Everything."""
    registry = Registry.load()
    facts = machine.describe(images, [workload.resolve(registry, name) for name in LANGUAGES], None)
    facts.pop("go-judge", None)
    with Stack(images) as stack, Load(stack) as load:
        worker = stack.start_worker(**NOTHING_KNOWN)
        # The first batches pay for what happens once a worker: connections, imports, the compilers' files in memory.
        load.send(make_batches(2 * SOURCES, options.repeats), at_once=SOURCES)
        runs = [measure(load, worker, options.batches, number) for number in range(options.repeats)]
    return Report(machine=facts, batches=options.batches, runs=runs, wrong=load.wrong)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process for --help and for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.headline",
        description="1,000 batches of 20 distinct tests, C and C++, Kafka to Kafka, caches off.",
        epilog="Example: python -m bench.headline --repeats 3 --json figures.json",
    )
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="runs (default: 5)")
    parser.add_argument("--batches", type=positive, default=1000, metavar="N", help="batches of a run (default: 1000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print the report; the exit code."""
    options = parse(arguments)
    try:
        report = run(options, Settings.load().image_prefix)
    except (EvalxError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        say(f"bench: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("bench: stopped")
        return EXIT_STOPPED
    print(as_markdown(report))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return EXIT_WRONG if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether anything grows while a worker judges for a long time: memory, descriptors, containers, keys in Redis.

Three things grow by design, up to a bound that ten minutes do not reach, and are counted apart: what the worker's
caches keep in memory (at most 160 MB), a key for each submission, by which its repeat is known for a day, and one for
each batch that was judged, which fences off for an hour who led it before.

``python -m bench.soak`` from the project's root. It starts a Kafka, a Redis and a worker of its own and keeps it half
busy with all languages, right and known batches among them. What is remembered of a batch is forgotten after a minute
(``EVALX_RESULT_CACHE_TTL_S``), so that a run is long enough for a state in which as much goes as comes. Exit code 0
when everything is flat, 1 when something grows or a verdict was wrong, 2 when it cannot run.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench import machine
from bench.command import conclude, positive, say
from bench.docker_cli import docker
from bench.driver import Load
from bench.load import PARTITIONS, Batch
from bench.report import table, verdict
from bench.stack import Stack
from bench.worker import Worker
from evalx.sandbox.spec import LABEL_OWNER
from evalx.settings import Settings

#: In turn; those that cost most come seldom.
LANGUAGES = ("c", "cpp-17", "python") * 6 + ("java-21", "javascript")
#: Batches of a round, and how many of them are in progress: places stay free, as in a service that is not full.
ROUND, AT_ONCE = 100, 4
#: Part of the batches that were sent before, within the last round.
REPEATED = 0.5
TESTS = 5
#: Seconds for which a result is remembered.
REMEMBERED_S = 60
#: The keys that are there for an hour, one a line, without keeping Redis from others.
FENCES = ("--scan", "--pattern", "*:lease")
#: The part of the samples at the beginning that is left out: pools, buffers and caches fill.
WARM_UP = 0.3
#: By how much the last third of the samples may be above the first: a part of it, and so much besides.
TOLERANCE = {"memory": (0.05, 5e6), "descriptors": (0.0, 10), "containers": (0.0, 1), "keys": (0.25, 200)}


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The worker and its Redis at one moment; memory, without that of the caches, and the caches in bytes."""

    at_s: float
    batches: int
    memory: int
    caches: int
    descriptors: int
    containers: int
    keys: int


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of the first and the last third after the warm-up, and the slope between them."""

    name: str
    first: float
    last: float
    an_hour: float
    flat: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    machine: dict[str, str]
    minutes: float
    batches: int
    wrong: int
    trends: list[Trend]
    samples: list[Sample]


def rounds(seed: int = 0) -> Iterator[list[Batch]]:
    """Round after round, each half of the one before."""
    dice = random.Random(seed)
    before: list[Batch] = []
    for number in itertools.count():
        fresh = [
            Batch(ROUND * number + place, LANGUAGES[place % len(LANGUAGES)], number, TESTS) for place in range(ROUND)
        ]
        yield [dice.choice(before) if before and dice.random() < REPEATED else batch for batch in fresh]
        before = fresh


def take_sample(stack: Stack, worker: Worker, began: float, batches: int) -> Sample:
    """Look at the worker and at what it has outside."""
    containers = docker("ps", "-aq", "--filter", f"label={LABEL_OWNER}={worker.name}").split()
    caches = int(worker.metric("evalx_cache_memory_bytes"))
    return Sample(
        at_s=time.monotonic() - began,
        batches=batches,
        memory=worker.resident_bytes - caches,
        caches=caches,
        descriptors=worker.descriptors,
        containers=len(containers),
        keys=int(stack.redis("dbsize")) - batches - len(stack.redis(*FENCES).split()),
    )


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """What became of each figure."""
    steady = samples[int(len(samples) * WARM_UP) :]
    third = max(1, len(steady) // 3)
    first, last = steady[:third], steady[-third:]
    hours = (statistics.median(one.at_s for one in last) - statistics.median(one.at_s for one in first)) / 3600
    found = []
    for name, (part, besides) in TOLERANCE.items():
        before, after = (statistics.median(getattr(one, name) for one in some) for some in (first, last))
        flat = after <= before * (1 + part) + besides
        slope = (after - before) / hours if hours else 0.0
        found.append(Trend(name=name, first=before, last=after, an_hour=slope, flat=flat))
    return found


def run(minutes: float, images: str) -> Report:
    """Load until the time is over, with a look after each round."""
    facts = machine.describe(images, [], None)
    facts.pop("go-judge", None)
    with Stack(images) as stack, Load(stack) as load:
        worker = stack.start_worker(result_cache_ttl_s=REMEMBERED_S)
        began, batches, samples = time.monotonic(), 0, []
        for batch in rounds():
            load.send(batch, at_once=AT_ONCE, partitions=range(PARTITIONS))
            batches += len(batch)
            samples.append(take_sample(stack, worker, began, batches))
            say(_line(samples[-1]))
            if samples[-1].at_s >= 60 * minutes:
                break
        wrong = load.wrong
    return Report(machine=facts, minutes=minutes, batches=batches, wrong=wrong, trends=trends(samples), samples=samples)


def _line(sample: Sample) -> str:
    return (
        f"{sample.at_s:5.0f} s  {sample.batches:6} batches  {sample.memory / 1e6:.0f} MB and "
        f"{sample.caches / 1e6:.0f} MB of caches  "
        f"{sample.descriptors} descriptors  {sample.containers} containers  {sample.keys} keys"
    )


def as_markdown(report: Report) -> str:
    """The report for people."""
    facts = table(["", ""], [list(fact) for fact in report.machine.items()])
    about = f"{report.batches:,} batches in {report.minutes:g} minutes, {report.wrong} wrong verdicts."
    head = ["", "first third", "last third", "an hour", ""]
    rows = [
        [one.name, f"{one.first:,.0f}", f"{one.last:,.0f}", f"{one.an_hour:+,.0f}", verdict(one.flat)]
        for one in report.trends
    ]
    return "\n\n".join([facts, about, table(head, rows)]) + "\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process for --help and for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description="Whether memory, descriptors, containers or keys grow in a long mixed load.",
        epilog="Example: python -m bench.soak --minutes 60 --json figures.json",
    )
    parser.add_argument("--minutes", type=positive, default=10, metavar="N", help="how long (default: 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print the report; the exit code."""
    options = parse(arguments)
    return conclude(
        lambda: run(options.minutes, Settings.load().image_prefix),
        as_markdown,
        options.json,
        wrong=lambda report: report.wrong or not all(one.flat for one in report.trends),
    )


if __name__ == "__main__":
    sys.exit(main())

"""What those in the high lane wait for while 5,000 batches are queued in the low one.

C with a program that is known and tests that are new, one after another in the high lane: first on a stack that does
nothing else, then while it judges the low ones, which are C, C++ and Python with new tests. A low batch that has begun
is not interrupted, so the 95th percentile may be half as much again as on an idle stack, and a batch's median besides.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

import msgspec

from bench.driver import Load, judging
from bench.load import HIGH, PARTITIONS, Batch
from bench.outcome import Figure, Options, Outcome, Say

NAME = "priority"
LANGUAGES = ("c", "cpp-17", "python")
LOW_LANE = range(8, PARTITIONS)
BACKLOG, SINGLES = 5000, 200
#: Sources of the batches in the low lane.
SOURCES = 12
#: What the 95th percentile may be of the idle one, with no batch before it.
FACTOR = 1.5
#: Inputs of the high ones; the low ones begin at 0.
HIGH_SEEDS = 500_000


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of each high batch, with nothing else to do and with a backlog, and what was left of that."""

    idle: list[float]
    busy: list[float]
    left: int

    @property
    def most(self) -> float:
        """What the 95th percentile may be, in milliseconds."""
        return FACTOR * p95(self.idle) + statistics.median(self.idle)


def p95(values: Sequence[float]) -> float:
    """The value that at most one of twenty exceeds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def backlog(count: int, number: int) -> list[Batch]:
    """The low batches of a run: known programs, new tests."""
    return [Batch(count * number + place, LANGUAGES[place % 3], place % SOURCES) for place in range(count)]


def singles(count: int, number: int) -> list[Batch]:
    """The high batches of a run, one half of which meets an idle stack."""
    return [Batch(HIGH_SEEDS + count * number + place) for place in range(count)]


def _run(load: Load, low: list[Batch], high: list[Batch]) -> Run:
    half = len(high) // 2
    idle = load.send(high[:half], at_once=1, partitions=HIGH)
    load.send(low, at_once=len(low), partitions=LOW_LANE, wait="none")
    busy = load.send(high[half:], at_once=1, partitions=HIGH)
    load.send([], at_once=1, wait="all")
    ms = [[1000 * second for second in done.latencies_s] for done in (idle, busy)]
    return Run(idle=ms[0], busy=ms[1], left=busy.left)


async def measure(options: Options, say: Say) -> Outcome:
    """Idle and with a backlog in turn."""
    # Fewer low ones than these would be gone before the high ones are through.
    low, high = options.count(BACKLOG, least=250), options.count(2 * SINGLES, least=40)
    runs = []
    with judging(LANGUAGES) as (_, load, _):
        known = [*backlog(SOURCES, 10**4), *singles(2, 10**4)]
        await asyncio.to_thread(load.send, known, at_once=SOURCES)
        for number in range(options.repeats):
            say(f"run {number + 1} of {options.repeats}: {low:,} low batches, {high // 2} high ones idle, as many busy")
            runs.append(await asyncio.to_thread(_run, load, backlog(low, number), singles(high, number)))
        wrong = load.wrong
    gone = sum(run.left == 0 for run in runs)
    notes = [f"In {gone} of {len(runs)} runs the backlog was gone before the high ones were through."] if gone else []
    return Outcome(bench=NAME, figures=figures_of(runs, options.wanted(1.0)), notes=notes, wrong=wrong)


def figures_of(runs: Sequence[Run], most: float | None) -> list[Figure]:
    """The first one is what is wanted; the others show where it comes from."""
    return [
        Figure(
            name="high lane, p95 with a backlog, against 1.5 x idle p95 + one batch",
            unit="x",
            runs=[p95(run.busy) / run.most for run in runs],
            most=most,
        ),
        Figure(name="high lane, p95 with a backlog", unit="ms", runs=[p95(run.busy) for run in runs]),
        Figure(name="high lane, p95 idle", unit="ms", runs=[p95(run.idle) for run in runs]),
        Figure(name="high lane, median with a backlog", unit="ms", runs=[statistics.median(run.busy) for run in runs]),
        Figure(name="high lane, median idle", unit="ms", runs=[statistics.median(run.idle) for run in runs]),
        Figure(
            name="low batches left when the high ones were through", unit="", runs=[float(run.left) for run in runs]
        ),
    ]

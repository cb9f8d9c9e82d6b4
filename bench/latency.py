"""One batch of 20 tests after another on a stack that does nothing else: new, with a known program, and all known.

`cold`: source and tests are new. `artifact cached`: the program was compiled before, the tests are new. `result
cached`: the very batch was judged before. The time is from before sending until the result is read, Kafka to Kafka; the
figure of a run is its median.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

from bench.driver import Load, judging
from bench.load import Batch
from bench.outcome import Figure, Options, Outcome, Say, Table

NAME = "latency"
LANGUAGES = ("c", "cpp-17", "python", "java-21", "javascript")
#: Batches of a run; those that cost most are fewer.
COUNTS = {"cold": 20, "artifact cached": 50, "result cached": 100}
SLOW, SLOW_PART = ("java-21", "javascript"), 0.4
#: Milliseconds that the issue which asked for the bench grants, at the median.
MOST_MS = {
    ("c", "artifact cached"): 30.0,
    ("cpp-17", "cold"): 500.0,
    ("python", "artifact cached"): 45.0,
    **{(language, "result cached"): 10.0 for language in LANGUAGES},
}
#: Of the batches of a run, so many seeds and variants are its own.
ROOM = 1000
#: The program that is known when the tests are new, and how many batches are known.
KNOWN, PRIMED = 500_000, 10


def batches_of(language: str, way: str, count: int, number: int) -> list[Batch]:
    """What a run sends; for what is to be known, it has to be sent once before."""
    base = ROOM * number
    if way == "cold":
        return [Batch(base + place, language, base + place) for place in range(count)]
    if way == "artifact cached":
        return [Batch(KNOWN + base + place, language, KNOWN) for place in range(count)]
    return [Batch(KNOWN - 1 - place % PRIMED, language, KNOWN) for place in range(count)]


def count_of(language: str, way: str, options: Options) -> int:
    """Batches of a run."""
    full = COUNTS[way] * (SLOW_PART if language in SLOW and way != "result cached" else 1)
    return options.count(round(full), least=3)


async def measure(options: Options, say: Say) -> Outcome:
    """Every language in every way, in turn, so that a machine that gets slower is slower for all."""
    runs: dict[tuple[str, str], list[list[float]]] = {(name, way): [] for name in LANGUAGES for way in COUNTS}
    with judging(LANGUAGES) as (_, load, _):
        for name in LANGUAGES:
            await _one_by_one(load, batches_of(name, "result cached", PRIMED, 0))
        for number in range(options.repeats):
            for name, way in runs:
                say(f"run {number + 1} of {options.repeats}: {name}, {way}")
                batches = batches_of(name, way, count_of(name, way, options), number)
                runs[name, way].append(await _one_by_one(load, batches))
        wrong = load.wrong
    figures = [
        Figure(
            name=f"{name}, {way}: p50",
            unit="ms",
            runs=[statistics.median(run) for run in some],
            most=MOST_MS.get((name, way)),
        )
        for (name, way), some in runs.items()
    ]
    return Outcome(bench=NAME, figures=figures, tables=[_spread(runs)], wrong=wrong)


async def _one_by_one(load: Load, batches: Sequence[Batch]) -> list[float]:
    done = await asyncio.to_thread(load.send, batches, at_once=1)
    return [1000 * second for second in done.latencies_s]


def _spread(runs: dict[tuple[str, str], list[list[float]]]) -> Table:
    rows = []
    for (name, way), some in runs.items():
        every = sorted(ms for run in some for ms in run)
        p95 = every[min(len(every) - 1, int(len(every) * 0.95))]
        rows.append([name, way, str(len(every)), *(f"{ms:.1f}" for ms in (every[0], p95, every[-1]))])
    head = ["language", "", "batches", "lowest ms", "p95 ms", "highest ms"]
    return Table(title="Latency of all runs", head=head, rows=rows)

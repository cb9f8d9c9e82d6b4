"""What grows with the size of a batch, the backlog, the number of workers and the size of outputs, and what does not.

Sizes of batches: as many tests in all, in batches of 1 to 500, C with a program that is known and tests that are new;
what a test costs may not differ by more than 15 % from 20 to 500. Backlogs: 1,000 to 100,000 batches of 20 tests, all
sent at once, of 200 that are known, since it is the queue that is measured and not the tests; rate and memory have to
stay. Workers: 1 to 4 on this machine, C and C++. Outputs: 1 byte to 64 KB a test, written, compared and returned.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from bench.driver import WARM, Load, judging, warm_up
from bench.load import PARTITIONS, TESTS, Batch
from bench.outcome import Figure, Options, Outcome, Plot, Say, Series
from bench.stack import Stack
from bench.worker import Worker

NAME = "scale"
LANGUAGES = ("c", "cpp-17")
ALL_LANES = range(PARTITIONS)
#: Tests a batch, and those between which the cost of a test has to stay; tests in all of each size.
SIZES, STEADY_FROM, TESTS_IN_ALL = (1, 5, 20, 100, 500), 20, 20_000
MOST_TIMES = 1.15
#: Batches that wait, of so many known ones.
BACKLOGS, KNOWN = (1000, 10_000, 100_000), 200
#: More than a worker takes from the topics ahead, so that its buffers are as full before the first backlog as later.
FILLS = 4000
#: Of a backlog of 1,000, what the rate of the largest has to be at least; of its memory, what that may be at most.
LEAST_RATE, MOST_MEMORY = 0.9, 1.1
WORKERS, WORKER_BATCHES = (1, 2, 3, 4), 500
OUTPUTS, OUTPUT_BATCHES = (1, 64, 1024, 8192, 65_536), 100
#: As many as keep a worker busy; more would only be memory of the load generator.
OUTPUTS_AT_ONCE = 32
#: Seconds between two looks at the worker's memory.
LOOK_S = 0.25


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: what was set, the seconds it took, the CPU time of the workers, and their memory meanwhile."""

    at: int
    seconds: float
    cpu_s: float
    memory: list[tuple[float, float]] = []


class Watch:
    """Looks at a worker's memory while the load is awaited. Use it as a context."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._began = time.monotonic()
        #: Seconds since the beginning, and MB.
        self.seen: list[tuple[float, float]] = []

    def _look(self) -> None:
        ended = False
        while not ended:
            self.seen.append((time.monotonic() - self._began, self._worker.resident_bytes / 1e6))
            ended = self._ended.wait(LOOK_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()


class Scale:
    """One run of the bench. Seeds count up, so that no test is known that should not be."""

    def __init__(self, options: Options, say: Say, stack: Stack, load: Load) -> None:
        self._options, self._say = options, say
        self._stack, self._load = stack, load
        self._seed = 0

    async def sizes(self) -> list[Point]:
        """As many tests in all, more or fewer of them a batch."""
        points = []
        for _ in range(self._options.repeats):
            for size in SIZES:
                count = self._options.count(TESTS_IN_ALL // size, least=4)
                self._say(f"{count:,} batches of {size} tests")
                point = await self._send([Batch(self._next(), variant=WARM, tests=size) for _ in range(count)], size)
                # Rounding may have made more or fewer tests of it.
                points.append(_times(point, 1 / (count * size)))
        return points

    async def backlogs(self) -> list[Point]:
        """More and more of what is known; the largest once, as it takes minutes."""
        known = [Batch(self._next(), variant=WARM) for _ in range(KNOWN)]
        await self._send(known, 0)
        await self._send(_again(known, self._options.count(FILLS, least=KNOWN)), 0)
        points = [await self._backlog(known, one) for _ in range(self._options.repeats) for one in BACKLOGS[:-1]]
        return [*points, await self._backlog(known, BACKLOGS[-1])]

    async def _backlog(self, known: Sequence[Batch], full: int) -> Point:
        count = self._options.count(full, least=KNOWN)
        self._say(f"backlog of {count:,}")
        with Watch(self._stack.workers[0]) as watch:
            point = await self._send(_again(known, count), full)
        return msgspec.structs.replace(_times(point, 1 / count), memory=watch.seen)

    async def outputs(self) -> list[Point]:
        """Longer and longer outputs."""
        count = self._options.count(OUTPUT_BATCHES, least=4)
        points = []
        await self._send([Batch(self._next(), output_bytes=1)], 0)
        for _ in range(self._options.repeats):
            for size in OUTPUTS:
                self._say(f"{count:,} batches whose tests write {size:,} bytes each")
                batches = [Batch(self._next(), output_bytes=size) for _ in range(count)]
                points.append(_times(await self._send(batches, size, OUTPUTS_AT_ONCE), 1 / (count * TESTS)))
        return points

    async def workers(self) -> list[Point]:
        """One worker more after another; those that are there stay."""
        count = self._options.count(WORKER_BATCHES, least=8)
        points = []
        for workers in WORKERS:
            while len(self._stack.workers) < workers:
                self._stack.start_worker()
            await asyncio.to_thread(warm_up, self._load, LANGUAGES)
            for _ in range(self._options.repeats):
                self._say(f"{workers} workers: {count:,} batches")
                batches = [Batch(self._next(), LANGUAGES[place % len(LANGUAGES)], WARM) for place in range(count)]
                points.append(_times(await self._send(batches, workers), 1 / (count * TESTS)))
        return points

    def _next(self) -> int:
        self._seed += 1
        return self._seed

    async def _send(self, batches: Sequence[Batch], at: int, at_once: int | None = None) -> Point:
        before = self._cpu_s()
        done = await asyncio.to_thread(self._load.send, batches, at_once=at_once or len(batches), partitions=ALL_LANES)
        return Point(at=at, seconds=done.seconds, cpu_s=self._cpu_s() - before)

    def _cpu_s(self) -> float:
        return sum(worker.cpu_s for worker in self._stack.workers)


async def measure(options: Options, say: Say) -> Outcome:
    """Everything in turn; the workers come last, since they stay."""
    with judging(LANGUAGES) as (stack, load, _):
        scale = Scale(options, say, stack, load)
        sizes, backlogs = await scale.sizes(), await scale.backlogs()
        outputs, workers = await scale.outputs(), await scale.workers()
        wrong = load.wrong
    return Outcome(
        bench=NAME,
        figures=[
            *size_figures(sizes, options),
            *backlog_figures(backlogs, options),
            *_costs("output of", "B", outputs),
            *_rates(workers),
        ],
        plots=_plots(sizes, backlogs, outputs, workers),
        notes=["Backlogs are of known batches, the largest was measured once.", *_notes(options)],
        wrong=wrong,
    )


def _notes(options: Options) -> list[str]:
    return [] if options.size == 1 else [f"Names and plots show full sizes; {options.size:g} of them was measured."]


def size_figures(points: Sequence[Point], options: Options) -> list[Figure]:
    """What a test costs by size of its batch, and how far that differs where it should not."""
    rounds = zip(*(_seconds(points, size) for size in SIZES if size >= STEADY_FROM), strict=True)
    name = f"cost of a test in batches of {STEADY_FROM} to {SIZES[-1]}, highest to lowest"
    spread = Figure(name=name, unit="x", runs=[max(one) / min(one) for one in rounds], most=options.wanted(MOST_TIMES))
    return [spread, *_costs("batch of", "", points)]


def backlog_figures(points: Sequence[Point], options: Options) -> list[Figure]:
    """Rates, and how rate and memory of the largest stand to those of the smallest."""
    rates = {one: [1 / seconds for seconds in _seconds(points, one)] for one in BACKLOGS}
    memory = {one: [max(mb for _, mb in point.memory) for point in points if point.at == one] for one in BACKLOGS}
    least, most = BACKLOGS[0], BACKLOGS[-1]
    against = f"backlog of {most:,} against {least:,}"
    return [
        Figure(
            name=f"rate, {against}",
            unit="x",
            runs=_against(rates[most], rates[least]),
            least=options.wanted(LEAST_RATE),
        ),
        Figure(
            name=f"memory, {against}",
            unit="x",
            runs=_against(memory[most], memory[least]),
            most=options.wanted(MOST_MEMORY),
        ),
        *(Figure(name=f"backlog of {one:,}", unit="batches/s", runs=rates[one]) for one in BACKLOGS),
        *(Figure(name=f"backlog of {one:,}, worker's memory", unit="MB", runs=memory[one]) for one in BACKLOGS),
    ]


def _costs(what: str, unit: str, points: Sequence[Point]) -> list[Figure]:
    figures = []
    for at in dict.fromkeys(point.at for point in points):
        name = f"cost of a test, {what} {at:,} {unit}".rstrip()
        figures.append(Figure(name=name, unit="ms", runs=[1000 * seconds for seconds in _seconds(points, at)]))
    return figures


def _rates(points: Sequence[Point]) -> list[Figure]:
    return [
        Figure(name=f"workers: {at}", unit="tests/s", runs=[1 / seconds for seconds in _seconds(points, at)])
        for at in WORKERS
    ]


def _plots(
    sizes: Sequence[Point], backlogs: Sequence[Point], outputs: Sequence[Point], workers: Sequence[Point]
) -> list[Plot]:
    largest = backlogs[-1].memory
    memory = Series(name="resident", x=[at for at, _ in largest], y=[mb for _, mb in largest])
    rates = [
        (title, label, y_label, Series(name=y_label, x=[float(at) for at in every], y=_medians(points, every)))
        for title, label, y_label, points, every in (
            ("Backlog", "batches that wait", "batches/s", backlogs, BACKLOGS),
            ("Workers on one machine", "workers", "tests/s", workers, WORKERS),
        )
    ]
    return [
        Plot(
            title="Cost of a test",
            x_label="tests a batch",
            y_label="ms",
            series=_two_costs(sizes, SIZES),
            log_x=True,
            log_y=True,
        ),
        Plot(
            title="Cost of a test's output",
            x_label="bytes",
            y_label="ms",
            series=_two_costs(outputs, OUTPUTS),
            log_x=True,
        ),
        *(
            Plot(title=title, x_label=x, y_label=y, series=[series], log_x=y == "batches/s")
            for title, x, y, series in rates
        ),
        Plot(title=f"Memory during {BACKLOGS[-1]:,}", x_label="seconds", y_label="MB", series=[memory]),
    ]


def _two_costs(points: Sequence[Point], every: Sequence[int]) -> list[Series]:
    x = [float(at) for at in every]
    whole = [1000 * statistics.median(_seconds(points, at)) for at in every]
    cpu = [1000 * statistics.median(point.cpu_s for point in points if point.at == at) for at in every]
    return [Series(name="time", x=x, y=whole), Series(name="worker's CPU time", x=x, y=cpu)]


def _medians(points: Sequence[Point], every: Sequence[int]) -> list[float]:
    return [1 / statistics.median(_seconds(points, at)) for at in every]


def _seconds(points: Sequence[Point], at: int) -> list[float]:
    return [point.seconds for point in points if point.at == at]


def _against(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / statistics.median(others) for one in some]


def _again(known: Sequence[Batch], count: int) -> list[Batch]:
    return [known[place % len(known)] for place in range(count)]


def _times(point: Point, factor: float) -> Point:
    return msgspec.structs.replace(point, seconds=point.seconds * factor, cpu_s=point.cpu_s * factor)

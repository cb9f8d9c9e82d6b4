"""Whether submissions wait for containers while the load goes up and down, and what the pool costs meanwhile.

``python -m bench.pool`` from the project's root. So many batches as the step says are there at a time, of all languages
named, in turn; as in a worker, ``concurrency`` of them are in progress and the others wait for a place, not for a
container. What is measured is the time from asking for a container to having it. Exit code 0 whatever the figures, 1
when an output was wrong, 2 when it cannot run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench import machine, workload
from bench.command import conclude, numbers, positive, say
from bench.report import table, verdict
from evalx.execution import Artifact, compile_program, run_tests
from evalx.languages import Language, Registry
from evalx.messages import Submission
from evalx.sandbox.container import Container
from evalx.sandbox.pool import Pool
from evalx.sandbox.runtime import SandboxRuntime
from evalx.sandbox.spec import LABEL_OWNER
from evalx.settings import Settings
from evalx.verdicts import Verdict

LANGUAGES = ("c", "python", "javascript")
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 100, 50, 20, 10, 5, 2, 1)
#: Seconds between counts of the containers that the daemon has.
SAMPLE_S = 0.05
#: Starts on an idle machine before the load: what the waits are compared with.
IDLE_STARTS = 7
#: Seconds in which the pool has to be back at its floor, and for which it is watched.
BACK_S, WATCHED_S = 60.0, 90.0
#: The longest wait, in starts.
MOST_STARTS = 1.5
#: Milliseconds for a container when one is idle.
IMMEDIATE_MS = 1.0
IMMEDIATE_TAKES = 2000


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What happened while so many batches were there. Waits and starts in milliseconds."""

    batches: int
    done: int
    waits_ms: list[float]
    starts_ms: list[float]
    most_containers: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One way up and down."""

    floor: int
    idle_start_ms: float
    immediate_ms: list[float]
    steps: list[Step]
    back_s: float | None
    most_containers: int
    wrong: int

    @property
    def longest_wait_ms(self) -> float:
        return max(wait for step in self.steps for wait in step.waits_ms)

    @property
    def slowest_start_ms(self) -> float:
        """Of those under load, or on the idle machine when there was none."""
        return max([self.idle_start_ms, *(start for step in self.steps for start in step.starts_ms)])


class Report(msgspec.Struct, frozen=True, kw_only=True):
    machine: dict[str, str]
    cap: int
    places: int
    runs: list[Run]


class Watch:
    """Notes what the pool does: every wait, every start, and how many containers there are."""

    def __init__(self, runtime: SandboxRuntime, owner: str) -> None:
        assert runtime._pool is not None, "start() comes first"
        self.pool: Pool = runtime._pool
        self.most = self.most_ever = self.there = 0
        self.waits_ms: list[float] = []
        self.starts_ms: list[float] = []
        self._runtime, self._owner = runtime, owner

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        pool: Any = self.pool
        take, start = pool._take, pool._start

        async def taken(*wishes: Any) -> Container:
            return await _timed(take(*wishes), self.waits_ms)

        async def started(*wishes: Any) -> Container:
            return await _timed(start(*wishes), self.starts_ms)

        pool._take, pool._start = taken, started
        counting = asyncio.create_task(self._count())
        try:
            yield
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
            pool._take, pool._start = take, start

    def cut(self) -> tuple[list[float], list[float], int]:
        """Waits, starts, and the most containers since the last cut."""
        said = (self.waits_ms.copy(), self.starts_ms.copy(), self.most)
        self.waits_ms.clear()
        self.starts_ms.clear()
        self.most = self.there
        return said

    async def _count(self) -> None:
        while True:
            self.there = len(await self._runtime.find_containers({LABEL_OWNER: self._owner}))
            self.most, self.most_ever = max(self.most, self.there), max(self.most_ever, self.there)
            await asyncio.sleep(SAMPLE_S)


async def _timed(work: Any, notes: list[float]) -> Container:
    began = time.perf_counter()
    container: Container = await work
    notes.append((time.perf_counter() - began) * 1000)
    return container


class Load:
    """Batches of all languages, in turn."""

    def __init__(self, runtime: SandboxRuntime, places: int) -> None:
        self._runtime = runtime
        self._places = asyncio.Semaphore(places)
        self._programs: list[tuple[Language, Artifact, Submission]] = []
        self.wrong = 0

    async def prepare(self, languages: Sequence[Language], tests: int) -> None:
        cases = workload.make_tests(tests)
        for language in languages:
            code = workload.source(language)
            artifact = await compile_program(self._runtime, language, code, 0)
            self._programs.append((language, artifact, workload.submission(language, code, cases)))

    async def step(self, batches: int, seconds: float, watch: Watch) -> Step:
        """Keep so many batches there for so long."""
        turns = itertools.cycle(self._programs)
        ends = time.perf_counter() + seconds

        async def one() -> int:
            done = 0
            while time.perf_counter() < ends:
                await self._judge(*next(turns))
                done += 1
            return done

        done = sum(await asyncio.gather(*(one() for _ in range(batches))))
        waits, starts, most = watch.cut()
        return Step(batches=batches, done=done, waits_ms=waits, starts_ms=starts, most_containers=most)

    async def _judge(self, language: Language, artifact: Artifact, submission: Submission) -> None:
        async with self._places:
            results = await run_tests(self._runtime, language, artifact.files, submission, 0)
        self.wrong += sum(result.verdict is not Verdict.AC for result in results)


async def run_once(options: argparse.Namespace, settings: Settings, languages: Sequence[Language]) -> Run:
    """Start a pool, go up and down, and watch it come back."""
    images = list(dict.fromkeys(language.image for language in languages))
    owner = f"bench:{os.getpid()}"
    runtime = SandboxRuntime(settings, images, Registry.load().interpreters)
    try:
        await runtime.start(owner=owner, warm=images)
        watch, load = Watch(runtime, owner), Load(runtime, settings.concurrency)
        floor = watch.pool._limits.bounds.floor
        await load.prepare(languages, options.tests)
        idle_start = statistics.median([await _start_ms(watch.pool, number) for number in range(IDLE_STARTS)])
        async with watch.running():
            steps = [await load.step(batches, options.seconds, watch) for batches in options.steps]
            back = await _back_at(watch, floor)
        return Run(
            floor=floor,
            idle_start_ms=idle_start,
            immediate_ms=await _immediate(watch.pool),
            steps=steps,
            back_s=back,
            most_containers=watch.most_ever,
            wrong=load.wrong,
        )
    finally:
        await runtime.close()


async def _start_ms(pool: Pool, number: int) -> float:
    """A start outside of the pool's places, of each image in turn."""
    specs = list(pool._specs.values())
    began = time.perf_counter()
    container = await Container.start(pool._docker, specs[number % len(specs)])
    seconds = time.perf_counter() - began
    await container.close()
    return seconds * 1000


async def _back_at(watch: Watch, floor: int) -> float | None:
    """Seconds until there are as many containers as before the load; None if that did not happen."""
    began = time.perf_counter()
    while time.perf_counter() - began < WATCHED_S:
        await asyncio.sleep(SAMPLE_S)
        if watch.there <= floor:
            return time.perf_counter() - began
    return None


async def _immediate(pool: Pool) -> list[float]:
    """Milliseconds to take an idle container, over and over."""
    image, times = next(iter(pool._specs)), []
    async with pool.acquire(image):
        pass
    for _ in range(IMMEDIATE_TAKES):
        began = time.perf_counter()
        async with pool.acquire(image):
            times.append((time.perf_counter() - began) * 1000)
    return times


def as_markdown(report: Report) -> str:
    """The report for people."""
    parts = [
        table(["", ""], [[name, value] for name, value in report.machine.items()]),
        f"Floor {report.runs[0].floor}, cap {report.cap}, {report.places} batches in progress at most; times in ms.",
        table(
            ["run", "batches there", "done", "wait p50", "p99", "longest", "starts", "slowest", "containers"],
            [_row(number, step) for number, run in enumerate(report.runs, 1) for step in run.steps],
        ),
        table(["must", "wanted", "each run", ""], _musts(report)),
    ]
    return "\n\n".join(parts) + "\n"


def _row(run: int, step: Step) -> list[str]:
    waits = sorted(step.waits_ms)
    slowest = f"{max(step.starts_ms):.0f}" if step.starts_ms else "-"
    figures = [f"{at(waits, 0.5):.3f}", f"{at(waits, 0.99):.2f}", f"{waits[-1]:.1f}"]
    counts = [str(len(step.starts_ms)), slowest, str(step.most_containers)]
    return [str(run), str(step.batches), str(step.done), *figures, *counts]


def at(ordered: Sequence[float], part: float) -> float:
    """The value below which this part of the values lies."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _musts(report: Report) -> list[list[str]]:
    runs = report.runs
    idle = [run.longest_wait_ms / run.idle_start_ms for run in runs]
    load = [run.longest_wait_ms / run.slowest_start_ms for run in runs]
    back = [run.back_s for run in runs]
    most = [run.most_containers for run in runs]
    p50 = [statistics.median(run.immediate_ms) for run in runs]
    return [
        _must("longest wait, in starts on the idle machine", f"{MOST_STARTS:g}x", [f"{one:.2f}x" for one in idle],
              max(idle) <= MOST_STARTS),
        _must("longest wait, in the slowest start of the run", f"{MOST_STARTS:g}x", [f"{one:.2f}x" for one in load],
              max(load) <= MOST_STARTS),
        _must("back at the floor", f"{BACK_S:g} s", ["never" if one is None else f"{one:.1f} s" for one in back],
              all(one is not None and one <= BACK_S for one in back)),
        _must("containers", f"{report.cap}", list(map(str, most)), max(most) <= report.cap),
        _must("an idle container, p50", f"{IMMEDIATE_MS:g} ms", [f"{one:.4f} ms" for one in p50],
              max(p50) < IMMEDIATE_MS),
    ]  # fmt: skip


def _must(name: str, most: str, measured: Sequence[str], passed: bool) -> list[str]:
    return [name, f"at most {most}", " ".join(measured), verdict(passed)]


async def measure(options: argparse.Namespace, settings: Settings, languages: Sequence[Language]) -> Report:
    """All runs."""
    facts = machine.describe(settings.image_prefix, languages, None)
    del facts["go-judge"]
    runs = []
    for number in range(options.repeats):
        say(f"run {number + 1} of {options.repeats}")
        runs.append(await run_once(options, settings, languages))
    return Report(
        machine=facts,
        cap=settings.container_cap,
        places=settings.concurrency,
        runs=runs,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process for --help and for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pool",
        description="Waits for containers while the load goes up and down.",
        epilog="Example: python -m bench.pool --languages c,python --steps 1,200,1 --json figures.json",
    )
    parser.add_argument(
        "--languages", type=lambda text: tuple(text.split(",")), default=LANGUAGES, metavar="LIST",
        help=f"LANGUAGE or LANGUAGE-VERSION, by comma (default: {','.join(LANGUAGES)})",
    )  # fmt: skip
    parser.add_argument(
        "--steps",
        type=numbers,
        default=STEPS,
        metavar="LIST",
        help="batches there at a time (default: 1 to 200 and back)",
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each step is (default: 2)")
    parser.add_argument("--tests", type=positive, default=20, metavar="N", help="tests in a batch (default: 20)")
    parser.add_argument("--repeats", type=positive, default=3, metavar="N", help="ways up and down (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print the report; the exit code."""
    options = parse(arguments)

    def run() -> Report:
        languages = [workload.resolve(Registry.load(), name) for name in options.languages]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(options, Settings.load(), languages))

    return conclude(run, as_markdown, options.json, wrong=lambda done: any(run.wrong for run in done.runs))


if __name__ == "__main__":
    sys.exit(main())

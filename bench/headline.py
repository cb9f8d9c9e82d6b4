"""1,000 batches of 20 distinct tests, C and C++, through Kafka, with nothing known but the toolchain.

A Kafka, a Redis and a worker are started for it; the load comes from another process. Each run has sources of its own,
compiled in the run; results are not cached. In the suite other ways to run as many tests take turns with it:
``python -m bench headline``. Alone it is ``python -m bench.headline``: exit code 0 whatever the figures, 1 when a
verdict was wrong, 2 when it cannot run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench.command import conclude, positive, say
from bench.contenders import FLOOR, GO_JUDGE, Peers, Samples, Turn
from bench.driver import Load
from bench.load import PARTITIONS, TESTS, Batch
from bench.machine import describe_stack
from bench.outcome import Figure, Options, Outcome, Plot, Say, Series
from bench.parts import Parts, as_table, own_s
from bench.stack import Stack
from bench.summary import Report, as_json, as_markdown
from evalx.settings import Settings

NAME = "headline"
LANGUAGES = ("c", "cpp-17")
BATCHES = 1000
#: Sources in all, as many of each language.
SOURCES = 8
SECONDS = "until the last result"
#: What is wanted of it at its full size, on two cores: seconds, times as fast as others, bytes / 10**6.
MOST_S = 5.0
LEAST_TIMES = {FLOOR: 2.5, GO_JUDGE: 15.0}
MOST_WORKER_MB, MOST_STACK_MB = 250.0, 2500.0
#: The worker must not know a test or a batch from before; the sources are new in each run.
NOTHING_KNOWN = {"result_cache": False, "test_cache": False, "single_flight": False}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run: seconds from the first send to the last result, those of CPU by part, and memory."""

    seconds: float
    cpu_s: dict[str, float]
    worker_peak_bytes: int
    stack_bytes: int | None


class Amount(msgspec.Struct, frozen=True):
    """How much a run is."""

    batches: int = BATCHES
    sources: int = SOURCES

    @property
    def tests(self) -> int:
        """Of a run."""
        return self.batches * TESTS


def amount(batches: int) -> Amount:
    """So many batches, with as many sources for each as the full headline has."""
    each = max(1, round(SOURCES * batches / BATCHES / len(LANGUAGES)))
    return Amount(batches, each * len(LANGUAGES))


def make_batches(count: int, number: int, sources: int = SOURCES) -> list[Batch]:
    """The batches of a run: the sources in turn, every test another one than all others of runs of as many batches.

    No two numbers share a source, whatever the amounts.
    """
    each = sources // len(LANGUAGES)
    made = [(language, SOURCES * number + variant) for variant in range(each) for language in LANGUAGES]
    batches = []
    for place in range(count):
        language, variant = made[place % len(made)]
        batches.append(Batch(count * number + place, language, variant))
    return batches


class Stand:
    """A stack with one worker, warm, and its load. Use it as a context."""

    def __init__(self, size: Amount, images: str) -> None:
        self._size, self._images = size, images
        self._exits = contextlib.ExitStack()
        self._runs = 0

    def __enter__(self) -> Self:
        try:
            stack = self._exits.enter_context(Stack(self._images))
            self._load = self._exits.enter_context(Load(stack, in_bulk=True))
            self._worker = stack.start_worker(**NOTHING_KNOWN)
            self._parts = Parts(stack, self._worker, self._load)
            # The first batches pay for what happens once: connections, imports, the compilers' files in memory.
            self.run(Amount(2 * SOURCES, SOURCES))
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)

    @property
    def wrong(self) -> int:
        """Verdicts other than AC so far."""
        return self._load.wrong

    def run(self, size: Amount | None = None) -> Run:
        """Send all at once and wait for all results."""
        size = size or self._size
        batches = make_batches(size.batches, self._runs, size.sources)
        self._runs += 1
        with self._parts.counted() as cpu_s:
            done = self._load.send(batches, at_once=len(batches), partitions=range(PARTITIONS))
        return Run(
            seconds=done.seconds,
            cpu_s=cpu_s,
            worker_peak_bytes=self._worker.peak_bytes,
            stack_bytes=self._parts.memory_bytes(),
        )


async def measure(options: Options, say: Say) -> Outcome:
    """Beside a sample of what the peers do."""
    size = amount(options.count(BATCHES))
    samples = Samples(
        floor=size.tests // 4, plain_floor=size.tests // 4, go_judge=size.tests // 10, docker_exec=2 * TESTS
    )
    return await compare(NAME, options, size, samples, say)


async def compare(name: str, options: Options, size: Amount, samples: Samples, say: Say) -> Outcome:
    """Runs of evalx and of its peers in turn."""
    settings = Settings.load()
    runs: list[Run] = []
    turns: dict[str, list[Turn]] = {}
    say("preparing the peers")
    async with Peers(LANGUAGES, samples, options.go_judge, settings) as peers:
        say("starting Kafka, Redis and a worker")
        with Stand(size, settings.image_prefix) as stand:
            for number in range(options.repeats):
                say(f"run {number + 1} of {options.repeats}: evalx")
                runs.append(await asyncio.to_thread(stand.run))
                for peer in peers.peers:
                    say(f"run {number + 1} of {options.repeats}: {peer.name}")
                    turns.setdefault(peer.name, []).append(await peer.measure(size.tests))
            wrong = stand.wrong
    return outcome(name, options, size, runs, turns, wrong=wrong, notes=peers.notes)


def outcome(
    name: str,
    options: Options,
    size: Amount,
    runs: Sequence[Run],
    turns: dict[str, list[Turn]],
    *,
    wrong: int,
    notes: Sequence[str],
) -> Outcome:
    """What the runs say."""
    about = f"{size.batches:,} batches of {TESTS} distinct tests, {size.sources} sources of {' and '.join(LANGUAGES)}."
    own = [f"{peer}: {_wrong(those)} wrong outputs." for peer, those in turns.items() if _wrong(those)]
    return Outcome(
        bench=name,
        figures=[*_own_figures(options, size, runs), *_peer_figures(options, runs, turns)],
        plots=[_plot(runs, turns)] if len(runs) > 1 else [],
        tables=[as_table([run.cpu_s for run in runs], size.tests)],
        notes=[about, *notes, *own],
        wrong=wrong + sum(map(_wrong, turns.values())),
    )


def _wrong(turns: Sequence[Turn]) -> int:
    return sum(turn.wrong for turn in turns)


def _own_figures(options: Options, size: Amount, runs: Sequence[Run]) -> list[Figure]:
    seconds = [run.seconds for run in runs]
    stack = [run.stack_bytes / 1e6 for run in runs if run.stack_bytes is not None]
    figures = [
        Figure(name=SECONDS, unit="s", runs=seconds, most=options.wanted(MOST_S)),
        Figure(name="tests a second", unit="/s", runs=[size.tests / one for one in seconds]),
        Figure(name="CPU of a test, all parts", unit="ms", runs=[own_s(run.cpu_s) * 1000 / size.tests for run in runs]),
        Figure(
            name="worker's memory, highest",
            unit="MB",
            runs=[run.worker_peak_bytes / 1e6 for run in runs],
            most=options.wanted(MOST_WORKER_MB),
        ),
    ]
    if stack:
        name = "memory of worker, Kafka, Redis and sandboxes, without page cache"
        figures.append(Figure(name=name, unit="MB", runs=stack, most=options.wanted(MOST_STACK_MB)))
    return figures


def _peer_figures(options: Options, runs: Sequence[Run], turns: dict[str, list[Turn]]) -> list[Figure]:
    figures = []
    for name, those in turns.items():
        least = LEAST_TIMES.get(name)
        times = [turn.seconds / run.seconds for turn, run in zip(those, runs, strict=True)]
        wanted = None if least is None else options.wanted(least)
        figures.append(Figure(name=f"times as fast as {name}", unit="x", runs=times, least=wanted))
        figures.append(Figure(name=as_many(name), unit="s", runs=[turn.seconds for turn in those]))
    return figures


def as_many(peer: str) -> str:
    """The name of the figure of its seconds."""
    return f"{peer}, as many tests"


def _plot(runs: Sequence[Run], turns: dict[str, list[Turn]]) -> Plot:
    seconds = {"evalx": [run.seconds for run in runs]}
    seconds |= {name: [turn.seconds for turn in those] for name, those in turns.items()}
    return Plot(
        title="Seconds for all tests, by run",
        x_label="run",
        y_label="seconds",
        series=[Series(name=name, x=[*range(1, len(y) + 1)], y=y) for name, y in seconds.items()],
        log_y=True,
    )


async def measure_alone(options: Options, size: Amount) -> Outcome:
    """Without any peer."""
    with Stand(size, Settings.load().image_prefix) as stand:
        runs = []
        for number in range(options.repeats):
            say(f"run {number + 1}")
            runs.append(await asyncio.to_thread(stand.run))
        return outcome(NAME, options, size, runs, {}, wrong=stand.wrong, notes=[])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process for --help and for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.headline",
        description="1,000 batches of 20 distinct tests, C and C++, Kafka to Kafka, caches off; evalx alone.",
        epilog="Example: python -m bench.headline --repeats 3 --json figures.json",
    )
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="runs (default: 5)")
    parser.add_argument(
        "--batches", type=positive, default=BATCHES, metavar="N", help="batches of a run (default: 1000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print the report; the exit code."""
    given = parse(arguments)
    options = Options(repeats=given.repeats, size=given.batches / BATCHES)

    def measured() -> Report:
        facts = describe_stack(LANGUAGES, None)
        facts.pop("go-judge")
        alone = asyncio.run(measure_alone(options, Amount(given.batches)))
        return Report(machine=facts, repeats=options.repeats, size=options.size, outcomes=[alone])

    return conclude(measured, as_markdown, given.json, wrong=lambda report: report.wrong, encode=as_json)


if __name__ == "__main__":
    sys.exit(main())

"""How fast the sandbox runs tests, next to a bare process loop and to go-judge, and how true its figures are.

``python -m bench.sandbox`` from the project's root. All contenders of a language run the same program (the artifact
that evalx compiled) on the same tests with the same toolchain; each is given its best setting, then they take turns.
Outputs are compared everywhere. Exit code 0 whatever the figures, 1 when an output was wrong, 2 when it cannot run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench import accuracy, bare, machine, report, workload
from bench.command import conclude, numbers, positive, say
from bench.gojudge import GoJudge
from bench.measure import Plan, compare
from bench.pooled import Pooled
from evalx.execution import Artifact
from evalx.languages import Language, Registry
from evalx.messages import TestCase
from evalx.settings import Settings


class Bench:
    """One run of the bench; `place` is a temporary directory."""

    def __init__(self, options: argparse.Namespace, settings: Settings, place: Path) -> None:
        self._options = options
        self._settings = settings
        self._place = place
        self._owner = f"bench:{os.getpid()}"
        self._tests = workload.make_tests(options.tests)
        self._plan = Plan(repeats=options.repeats, seconds=options.seconds, batches=options.batches)
        self._go_judge = Path(os.environ["GO_JUDGE"]).resolve() if os.environ.get("GO_JUDGE") else None

    async def run(self, languages: Sequence[Language], c: Language) -> report.Report:
        """Everything that was asked for."""
        facts = machine.describe(
            self._settings.image_prefix, languages, None if self._go_judge is None else str(self._go_judge)
        )
        bare.build_floor(self._place)
        bare.write_tests(self._place / "tests", self._tests)
        cpu_time, peak_memory = (None, []) if self._options.no_accuracy else await self._accuracy(c)
        return report.Report(
            machine=facts,
            tests_per_batch=len(self._tests),
            repeats=self._options.repeats,
            languages=[await self._language(language) for language in languages],
            cpu_time=cpu_time,
            peak_memory=peak_memory,
        )

    async def _accuracy(self, c: Language) -> tuple[accuracy.CpuTime, list[accuracy.PeakMemory]]:
        say("accuracy")
        cpu_time = await accuracy.cpu_time(self._settings, c, self._owner, max(5, self._options.repeats))
        return cpu_time, await accuracy.peak_memory(self._settings, c, self._owner)

    async def _language(self, language: Language) -> report.LanguageReport:
        say(language.title)
        async with contextlib.AsyncExitStack() as stack:
            pooled = Pooled(self._settings, language, self._owner, self._options.in_progress)
            await stack.enter_async_context(pooled)
            artifact = await pooled.compile(workload.source(language), self._tests)
            others = self._others(language, artifact, self._tests)
            for other in others:
                await stack.enter_async_context(other)
            series = await compare([pooled, *others], self._plan, say)
        return report.LanguageReport(
            language=language.name,
            version=language.version,
            title=language.title,
            compile_ms=None if artifact.report is None else artifact.report.wall_time_ms,
            series=series,
        )

    def _others(
        self, language: Language, artifact: Artifact, tests: Sequence[TestCase]
    ) -> list[bare.BareLoop | GoJudge]:
        image = self._settings.image_prefix + language.image
        box = self._place / f"{language.name}-{language.version}"
        write_artifact(box, artifact)
        plain, own = workload.plain_argv(language), workload.own_argv(language)
        parallel = self._options.parallel
        others: list[bare.BareLoop | GoJudge] = [
            bare.BareLoop("bare loop", image, self._place, box, plain, language.run_env, len(tests), parallel)
        ]
        if plain != own:
            name = "bare loop, evalx's command"
            others.append(bare.BareLoop(name, image, self._place, box, own, language.run_env, len(tests), parallel))
        build = workload.usual_build(language)
        if build is not None:
            box = bare.build(self._place, language, image, build)
            name = workload.USUAL_BUILD
            others.append(bare.BareLoop(name, image, self._place, box, plain, language.run_env, len(tests), parallel))
        if self._go_judge is not None:
            others.append(GoJudge(self._go_judge, image, self._place, artifact.files, plain, language.run_env, tests))
        return others


async def stoppable(work: Coroutine[Any, Any, report.Report]) -> report.Report:
    """SIGTERM ends it as Ctrl-C does, so that no container is left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def write_artifact(box: Path, artifact: Artifact) -> None:
    """The compiled program as it is in a sandbox's /box."""
    for file in artifact.files:
        path = box / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process for --help and for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sandbox",
        description="Tests per second of evalx's sandbox, a bare process loop and go-judge, side by side.",
        epilog="Example: GO_JUDGE=/tmp/go-judge python -m bench.sandbox --languages c,python --json figures.json",
    )
    parser.add_argument(
        "--languages", type=lambda text: tuple(text.split(",")), default=workload.DEFAULT_LANGUAGES, metavar="LIST",
        help=f"LANGUAGE or LANGUAGE-VERSION, by comma (default: {','.join(workload.DEFAULT_LANGUAGES)})",
    )  # fmt: skip
    parser.add_argument("--tests", type=positive, default=20, metavar="N", help="tests in a batch (default: 20)")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="runs of each contender (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long each run is (default: 2)")
    parser.add_argument("--batches", type=positive, metavar="N", help="batches in a run, instead of --seconds")
    parser.add_argument(
        "--in-progress", type=numbers, default=(1, 2, 4, 8), metavar="LIST",
        help="batches that evalx is given at a time; the best one counts (default: 1,2,4,8)",
    )  # fmt: skip
    parser.add_argument(
        "--parallel", type=numbers, default=(1, 2, 4), metavar="LIST",
        help="programs at a time in the bare loop; the best one counts (default: 1,2,4)",
    )  # fmt: skip
    parser.add_argument("--no-accuracy", action="store_true", help="leave out CPU time and memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and print the report; the exit code."""
    options = parse(arguments)
    return conclude(
        lambda: run(options), report.as_markdown, options.json, wrong=lambda done: done.wrong, encode=report.as_json
    )


def run(options: argparse.Namespace) -> report.Report:
    """Everything."""
    registry = Registry.load()
    languages = [workload.resolve(registry, name) for name in options.languages]
    with tempfile.TemporaryDirectory(prefix="evalx-bench-") as name:
        place = Path(name)
        # Programs in containers run under other user ids.
        place.chmod(0o755)
        bench = Bench(options, Settings.load(), place)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(stoppable(bench.run(languages, registry.resolve("c"))))


if __name__ == "__main__":
    sys.exit(main())

"""The bench suite: ``python -m bench NAME...`` from the project's root; ``--help`` has the names.

A bench is a module, see ``bench.outcome``. Each starts a stack of its own and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, cast

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import ci, headline, machine, peers, summary, workload
from bench.command import EXIT_FAILED, EXIT_STOPPED, EXIT_WRONG, FAILURES, positive, say, stopped_by_sigterm
from bench.outcome import Options, Outcome, Say
from bench.summary import Report

#: In the order of ``all``.
BENCHES = ("headline", "burst", "contest", "resubmit", "latency", "priority", "scale", "peers")
ALL = "all"
#: What a bench says of this kind moves its bar.
_STEP = re.compile(r"(\d+) of (\d+)")

EPILOG = """\
examples:
  python -m bench headline                            evalx and its peers, five runs of each in turn
  python -m bench headline --size 0.1 --repeats 2     a trial of a tenth
  python -m bench all --go-judge PATH --report bench/report
  python -m bench burst latency --json now.json --compare before.json
  python -m bench ci                                  what CI holds against bench/reference.json

The exit code is 0 whatever the figures are, 1 when a verdict was wrong (or, of ci, when evalx became slower), 2 when a
bench could not run.
"""


class Bench(Protocol):
    """A module of the suite."""

    NAME: str
    __doc__: str | None

    async def measure(self, options: Options, say: Say) -> Outcome:
        """All that it measures."""


def find(name: str) -> Bench:
    """The bench of that name."""
    return cast("Bench", importlib.import_module(f"bench.{name}"))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process for --help and for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures evalx, Kafka to Kafka, on stacks of its own.\n\n" + "\n".join(_lines()),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = (*BENCHES, ALL, ci.NAME)
    parser.add_argument("bench", nargs="+", choices=names, metavar="BENCH", help=f"one or more of the above, or {ALL}")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="runs of each figure (default: 5)")
    parser.add_argument("--size", type=_size, default=1.0, metavar="X", help="factor on counts (default: 1)")
    parser.add_argument(
        "--go-judge", type=Path, default=os.environ.get("GO_JUDGE") or None, metavar="PATH",
        help="its binary, to be measured beside evalx (default: GO_JUDGE)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.md, report.json and plots there")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier --json, to be shown beside this one")
    return parser.parse_args(arguments)


def _lines() -> Iterator[str]:
    for name in (*BENCHES, ci.NAME):
        yield f"  {name:10} {(find(name).__doc__ or '').splitlines()[0]}"
    yield f"  {ALL:10} All but {ci.NAME}, one after the other."


def _size(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError(text)
    return value


class Progressing:
    """A line and a bar on a terminal, else the lines alone; on stderr. Use it as a context."""

    def __init__(self, benches: int) -> None:
        self._console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._benches, self._name = benches, ""
        self._all = self._progress.add_task("benches", total=benches, visible=benches > 1)
        self._one = self._progress.add_task("", total=None)

    def begin(self, name: str) -> None:
        """A bench begins."""
        self._name = name
        self._progress.reset(self._one, total=None, description=name)

    def end(self) -> None:
        """It has ended."""
        self._progress.advance(self._all)

    def say(self, text: str) -> None:
        """What it does; "2 of 5" moves the bar."""
        line = f"{self._name}: {text}"
        if not self._console.is_terminal:
            say(line)
            return
        self._progress.update(self._one, description=line)
        if (step := _STEP.search(text)) is not None:
            self._progress.update(self._one, completed=int(step[1]) - 1, total=int(step[2]))

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The bars, while it lasts."""
        with self._progress if self._console.is_terminal else contextlib.nullcontext():
            yield


def run(names: Sequence[str], options: Options) -> tuple[list[Outcome], int]:
    """The outcomes of those that could run, and an exit code when not all could; stopped, it keeps what there is."""
    outcomes, code = [], 0
    progress = Progressing(len(names))
    with progress.shown():
        for name in names:
            progress.begin(name)
            try:
                outcomes.append(asyncio.run(find(name).measure(options, progress.say)))
            except FAILURES as error:
                say(f"bench: {name}: {error}")
                code = EXIT_FAILED
            except KeyboardInterrupt:
                say(f"bench: {name}: stopped")
                return outcomes, EXIT_STOPPED
            progress.end()
    return outcomes, code


def write(report: Report, directory: Path, earlier: Report | None) -> None:
    """The report and its plots as files; raises OSError."""
    from bench import plots  # it takes a second to import, and only this needs it

    directory.mkdir(parents=True, exist_ok=True)
    found = summary.plots_of(report)
    for name, plot in (one for those in found.values() for one in those):
        plots.write(plot, directory / name)
    names = {bench: [name for name, _ in those] for bench, those in found.items()}
    (directory / "report.md").write_text(summary.as_markdown(report, names, earlier))
    (directory / "report.json").write_bytes(msgspec.json.format(summary.as_json(report)))


def conclude(given: argparse.Namespace) -> int:
    """Measure, print and write; the exit code."""
    names = [name for name in BENCHES if name in given.bench or ALL in given.bench]
    names += [ci.NAME] if ci.NAME in given.bench else []
    options = Options(repeats=given.repeats, size=given.size, go_judge=given.go_judge)
    earlier = None if given.compare is None else summary.load(given.compare)
    few = set(names) <= {headline.NAME, peers.NAME, ci.NAME}
    facts = machine.describe_stack(headline.LANGUAGES if few else workload.DEFAULT_LANGUAGES, options.go_judge)
    outcomes, code = run(names, options)
    report = Report(machine=facts, repeats=options.repeats, size=options.size, outcomes=outcomes)
    print(summary.as_markdown(report, earlier=earlier), end="")
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(summary.as_json(report)))
    if given.report is not None:
        write(report, given.report, earlier)
    if code:
        return code
    return EXIT_WRONG if report.wrong or not all(ci.held(outcome) for outcome in outcomes) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    given = parse(arguments)
    try:
        with stopped_by_sigterm():
            return conclude(given)
    except FAILURES as error:
        say(f"bench: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("bench: stopped")
        return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())

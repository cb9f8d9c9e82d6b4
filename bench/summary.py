"""The report of the suite: the machine, every figure with its runs and what is wanted of it; and two side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.outcome import Figure, Outcome, Plot
from bench.report import table, verdict
from evalx.errors import UsageError

#: A change of less than this, in hundredths, is not remarked: runs on the same machine differ by as much.
NOISE = 10.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of the suite has measured."""

    machine: dict[str, str]
    repeats: int
    size: float
    outcomes: list[Outcome]

    @property
    def wrong(self) -> int:
        """Verdicts and outputs that were not as expected."""
        return sum(outcome.wrong for outcome in self.outcomes)


def as_json(report: Report) -> bytes:
    """Everything, with the medians, for programs."""
    medians = {one.bench: {figure.name: figure.median for figure in one.figures} for one in report.outcomes}
    return msgspec.json.encode({**msgspec.structs.asdict(report), "medians": medians})


def load(file: Path) -> Report:
    """An earlier report; raises UsageError when it is none."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{file} is no report of python -m bench --json: {error}") from error


def as_markdown(report: Report, plots: dict[str, list[str]] | None = None, earlier: Report | None = None) -> str:
    """The report for people; ``plots`` are names of files by bench."""
    parts = [table(["", ""], [list(fact) for fact in report.machine.items()]), _about(report)]
    for outcome in report.outcomes:
        parts += _outcome(outcome, (plots or {}).get(outcome.bench, []))
    if earlier is not None:
        parts += _compared(earlier, report)
    return "\n\n".join(parts) + "\n"


def _about(report: Report) -> str:
    about = f"Medians of {report.repeats} runs."
    if report.size != 1.0:
        about += f" A trial of {report.size:g} of the full size, of which no figures are wanted that depend on it."
    return about


def _outcome(outcome: Outcome, plots: Sequence[str]) -> Iterator[str]:
    yield f"## {outcome.bench}"
    rows = [
        [one.name, " ".join(map(show, one.runs)), f"{show(one.median)} {one.unit}", wanted(one), mark(one)]
        for one in outcome.figures
    ]
    yield table(["figure", "each run", "median", "wanted", ""], rows)
    for one in outcome.tables:
        yield f"{one.title}:"
        yield table(one.head, one.rows)
    yield from (f"![{plot.title}]({name})" for plot, name in zip(outcome.plots, plots, strict=False))
    notes = [*outcome.notes, *([f"**{outcome.wrong} wrong verdicts or outputs.**"] if outcome.wrong else [])]
    if notes:
        yield "\n".join(f"- {note}" for note in notes)


def wanted(figure: Figure) -> str:
    """What is wanted of the median, in words."""
    words = [("at least", figure.least), ("at most", figure.most)]
    return ", ".join(f"{word} {show(limit)} {figure.unit}" for word, limit in words if limit is not None) or "-"


def mark(figure: Figure) -> str:
    """Whether it is so."""
    return "-" if figure.passed is None else verdict(figure.passed)


def show(value: float) -> str:
    """Three digits are enough, and more of a large number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _compared(earlier: Report, report: Report) -> Iterator[str]:
    yield "## Compared with an earlier report"
    yield "\n".join(f"- {line}" for line in _differences(earlier, report)) or "- Same machine, versions and amounts."
    yield table(["bench", "figure", "before", "now", "change", ""], list(_changes(earlier, report)))


def _differences(earlier: Report, report: Report) -> Iterator[str]:
    before = {**earlier.machine, "runs": str(earlier.repeats), "size": f"{earlier.size:g}"}
    now = {**report.machine, "runs": str(report.repeats), "size": f"{report.size:g}"}
    for name in dict.fromkeys((*before, *now)):
        if before.get(name) != now.get(name):
            yield f"{name}: {before.get(name, '-')}, now {now.get(name, '-')}"


def _changes(earlier: Report, report: Report) -> Iterator[list[str]]:
    before = {(one.bench, figure.name): figure for one in earlier.outcomes for figure in one.figures}
    now = {(one.bench, figure.name): figure for one in report.outcomes for figure in one.figures}
    for place in dict.fromkeys((*now, *before)):
        old, new = before.get(place), now.get(place)
        yield [*place, _median(old), _median(new), *_change(old, new)]


def _median(figure: Figure | None) -> str:
    return "not measured" if figure is None else f"{show(figure.median)} {figure.unit}"


def _change(old: Figure | None, new: Figure | None) -> tuple[str, str]:
    if old is None or new is None or not old.median or math.isnan(old.median) or math.isnan(new.median):
        return "-", ""
    percent = 100 * (new.median / old.median - 1)
    return f"{percent:+.1f} %", _remark(old, new, percent)


def _remark(old: Figure, new: Figure, percent: float) -> str:
    if old.passed is not new.passed and None not in (old.passed, new.passed):
        return "passes now" if new.passed else "**fails now**"
    direction = (new.least is not None) - (new.most is not None)
    if abs(percent) < NOISE or direction == 0:
        return ""
    return "better" if percent * direction > 0 else "worse"


def plots_of(report: Report) -> dict[str, list[tuple[str, Plot]]]:
    """The plots of each bench, and the names of their files."""
    return {
        one.bench: [(f"{one.bench}-{number}.svg", plot) for number, plot in enumerate(one.plots, 1)]
        for one in report.outcomes
    }

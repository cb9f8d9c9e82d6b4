"""What a bench of the suite is asked for and what it answers: figures with what is wanted of them, tables, and plots.

A bench is a module with ``NAME``, a docstring whose first line is its help, and
``async def measure(options: Options, say: Say) -> Outcome``. ``python -m bench`` runs it, and prints and keeps what it
answers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import msgspec

#: Says in one line what a bench does just now.
Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much to measure."""

    repeats: int = 5
    #: Factor on counts: 1.0 measures what the figures are wanted of, less is a trial.
    size: float = 1.0
    #: go-judge's binary; without it go-judge is not measured.
    go_judge: Path | None = None

    def count(self, full: int, least: int = 1) -> int:
        """A count of the full size, made smaller by ``size``."""
        return max(least, round(full * self.size))

    def wanted(self, limit: float) -> float | None:
        """What is wanted of a figure that depends on the counts; nothing of a trial with others."""
        return limit if self.size == 1.0 else None


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing measured: the figure of every run, and their median."""

    name: str
    unit: str
    runs: list[float]
    #: What is wanted of the median, at most or at least; neither: it is only shown.
    most: float | None = None
    least: float | None = None

    @property
    def median(self) -> float:
        """The middle one of the runs; NaN when there was none."""
        return statistics.median(self.runs) if self.runs else float("nan")

    @property
    def passed(self) -> bool | None:
        """Whether the median is as wanted; None when nothing is wanted."""
        if self.most is None and self.least is None:
            return None
        enough = self.least is None or self.median >= self.least
        return enough and (self.most is None or self.median <= self.most)


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a plot."""

    name: str
    x: list[float]
    y: list[float]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """Lines over the same axes."""

    title: str
    x_label: str
    y_label: str
    series: list[Series]
    log_x: bool = False
    log_y: bool = False


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of text that are shown as they are."""

    title: str
    head: list[str]
    rows: list[list[str]]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All that a bench has measured."""

    bench: str
    figures: list[Figure]
    plots: list[Plot] = []
    tables: list[Table] = []
    #: What was not measured and why, what was wrong, and what one has to know to read the figures.
    notes: list[str] = []
    #: Verdicts that were not as expected.
    wrong: int = 0

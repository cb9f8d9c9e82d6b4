"""Plots as SVG: text that browsers and repositories show, the same for the same figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from bench.outcome import Plot

#: Inches.
_SIZE = (8.0, 3.6)
_MARKERS = "osD^vPX*"


def write(plot: Plot, file: Path) -> None:
    """Draw it into a file."""
    # Text stays text, and the names of parts do not change from one time to the next.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "evalx", "font.size": 9.0}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.subplots()
        _draw(plot, axes)
        if plot.series:
            figure.legend(loc="outside right upper")
        figure.savefig(file, format="svg", metadata={"Date": None})


def _draw(plot: Plot, axes: Axes) -> None:
    for number, series in enumerate(plot.series):
        axes.plot(series.x, series.y, label=series.name, marker=_MARKERS[number % len(_MARKERS)], markersize=4)
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    axes.grid(visible=True, alpha=0.3)
    if not plot.log_y:
        axes.set_ylim(bottom=0)
    axes.set_xscale("log" if plot.log_x else "linear")
    axes.set_yscale("log" if plot.log_y else "linear")
    for axis, logarithmic in ((axes.xaxis, plot.log_x), (axes.yaxis, plot.log_y)):
        if logarithmic:
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    if not plot.log_x and all(float(x).is_integer() for series in plot.series for x in series.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

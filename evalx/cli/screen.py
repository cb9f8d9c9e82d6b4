"""Draws the picture of `evalx top`. Ids come from senders: they are shown escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalx.cli.show import one_line, printable
from evalx.cli.vitals import Picture, Times
from evalx.stages import STAGES

#: Characters of an id that are shown.
ID_CHARS = 36
NONE = "-"


def draw(shown: Picture) -> RenderableType:
    """All of it, for a terminal or as plain text."""
    parts: list[RenderableType] = [_head(shown), *(Text(_safe(one), style="red") for one in shown.troubles)]
    parts += [Text(""), _lanes(shown), Text("")]
    parts += [Columns([_stages(shown), _cache(shown)], padding=(0, 6)), Text(""), _pool(shown)]
    if shown.slowest:
        parts += [Text(""), _slowest(shown)]
    return Group(*parts)


def _head(shown: Picture) -> Text:
    rates = shown.rates
    text = Text()
    text.append(f"{shown.workers} workers", style="bold")
    text.append(f"  {rates['submissions']:.1f} submissions/s  {rates['tests']:.1f} tests/s")
    text.append(f"  {rates['from_cache']:.1f} cached/s  {rates['joined']:.1f} joined/s")
    slots = shown.slots
    text.append(f"  slots {slots.busy}/{slots.slots} busy, {slots.waiting} wait, {slots.utilisation:.0%} used")
    for name in ("judge_errors", "retries", "dead_letters", "repeats"):
        if rates[name]:
            text.append(f"  {name.replace('_', ' ')} {rates[name]:.2f}/s", style="yellow")
    return text


def _lanes(shown: Picture) -> Table:
    columns = ("lane", "lag", "oldest", "in worker", "in flight", "judged/s", "p50", "p95")
    rows = (
        (
            one.lane,
            NONE if one.lag is None else str(one.lag),
            duration(one.oldest_s),
            str(one.waiting),
            str(one.in_flight),
            f"{one.per_s:.1f}",
            *_percentiles(one.times),
        )
        for one in shown.lanes
    )
    return _table(columns, rows)


def _stages(shown: Picture) -> Table:
    rows = ((name, _part(times.share), *_percentiles(times)) for name, times in shown.stages.items())
    return _table(("stage", "share", "p50", "p95"), rows)


def _cache(shown: Picture) -> Table:
    rows = ((one.level, f"{one.lookups_per_s:.1f}", _part(one.hit_rate)) for one in shown.cache)
    return _table(("cache", "looked up/s", "hits"), rows)


def _pool(shown: Picture) -> Table:
    rows = (
        (one.image, str(one.idle), str(one.busy), str(one.starting), str(one.checking), f"{one.utilisation:.0%}")
        for one in shown.pool
    )
    return _table(("containers", "idle", "busy", "starting", "checking", "used"), rows)


def _slowest(shown: Picture) -> Table:
    rows = (
        (
            _safe(one.submission)[:ID_CHARS],
            one.lane,
            one.language or NONE,
            one.verdict or NONE,
            duration(one.seconds),
            *(duration(one.stages.get(stage)) for stage in STAGES),
        )
        for one in shown.slowest
    )
    return _table(("slowest", "lane", "language", "verdict", "all", *STAGES), rows, text_columns=4)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> Table:
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        drawn.add_column(name, justify="left" if index < text_columns else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(_safe(cell)) for cell in row))
    return drawn


def _percentiles(times: Times) -> tuple[str, str]:
    return duration(times.p50_s), duration(times.p95_s)


def _part(share: float | None) -> str:
    return NONE if share is None else f"{share:.0%}"


def duration(seconds: float | None) -> str:
    """In the unit in which it has few digits."""
    if seconds is None:
        return NONE
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:.0f} s"


def _safe(text: str) -> str:
    return one_line(printable(text))

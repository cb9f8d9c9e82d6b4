"""The report: Markdown tables, so that they can be pasted into the documentation, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bench.accuracy import CpuTime, PeakMemory
from bench.measure import Series
from bench.workload import MUSTS, USUAL_BUILD

PASS, FAIL = "pass", "**FAIL**"


class LanguageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for a language. `series` begins with evalx; the plain bare loop is `bare loop`."""

    language: str
    version: str
    title: str
    compile_ms: float | None
    series: list[Series]

    def rate(self, contender: str) -> float | None:
        """The median of a contender, in tests per second; None if it was not measured."""
        return next((series.median for series in self.series if series.name == contender), None)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of one run of the bench."""

    machine: dict[str, str]
    tests_per_batch: int
    repeats: int
    languages: list[LanguageReport]
    cpu_time: CpuTime | None
    peak_memory: list[PeakMemory]

    @property
    def wrong(self) -> int:
        """Tests with another output than the right one, of all contenders."""
        return sum(series.wrong for language in self.languages for series in language.series)


def as_json(report: Report) -> bytes:
    """Everything, with the medians, for programs."""
    return msgspec.json.format(msgspec.json.encode({**msgspec.structs.asdict(report), "medians": _medians(report)}))


def _medians(report: Report) -> dict[str, dict[str, float]]:
    return {one.title: {series.name: series.median for series in one.series} for one in report.languages}


def as_markdown(report: Report) -> str:
    """The report for people."""
    parts = [
        table(["", ""], [[name, value] for name, value in report.machine.items()]),
        f"Tests per second, {report.tests_per_batch} tests a batch, stdin and stdout captured and compared; "
        f"median of {report.repeats} runs that took turns.",
        table(
            ["program", "contender", "best setting", "each run", "median", "CPU ms a test", "wrong"],
            [row for language in report.languages for row in _rows(language)],
        ),
        table(["must", "wanted", "measured", ""], _musts(report)),
        "Compiling, not included: " + (", ".join(_compiles(report)) or "nothing was compiled") + ".",
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns of even width."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _rows(language: LanguageReport) -> list[list[str]]:
    return [
        [
            language.title,
            series.name,
            f"{series.setting} {series.unit}",
            " ".join(f"{rate:,.0f}" for rate in series.rates),
            f"{series.median:,.0f}",
            ", ".join(f"{part} {ms:.2f}" for part, ms in series.cpu_ms.items()),
            str(series.wrong),
        ]
        for series in language.series
    ]


def _musts(report: Report) -> list[list[str]]:
    rows = [row for language in report.languages for row in _speed_musts(language)]
    if report.cpu_time is not None:
        cpu = report.cpu_time
        text = f"{cpu.difference:.1%} ({cpu.idle_ms:.1f} ms idle, {cpu.busy_ms:.1f} ms busy)"
        rows.append(["CPU time, idle against all slots busy", "within 5 %", text, verdict(cpu.passed)])
    for memory in report.peak_memory:
        name = f"peak memory of {memory.touched_mib} MiB"
        rows.append([name, "within 5 % + 2 MiB", f"{memory.reported_mib:.1f} MiB", verdict(memory.passed)])
    return rows


def _speed_musts(language: LanguageReport) -> list[list[str]]:
    must = MUSTS[language.language]
    wanted = {"bare loop": must.bare_loop, "go-judge": must.go_judge}
    own = language.rate("evalx")
    assert own is not None, "evalx is always measured"
    rows = []
    for contender, factor in wanted.items():
        other = language.rate(contender)
        name, least = f"{language.title} against {contender}", f"at least {factor:g}x"
        if other is None:
            rows.append([name, least, "not measured", "-"])
        else:
            rows.append([name, least, f"{own / other:.2f}x", verdict(own / other >= factor)])
    usual = language.rate(USUAL_BUILD)
    if usual is not None:
        rows.append([f"{language.title} against {USUAL_BUILD}", "for comparison", f"{own / usual:.2f}x", "-"])
    return rows


def verdict(passed: bool) -> str:
    """How a must is marked."""
    return PASS if passed else FAIL


def _compiles(report: Report) -> list[str]:
    return [f"{one.title} {one.compile_ms:.0f} ms" for one in report.languages if one.compile_ms is not None]

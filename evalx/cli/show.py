"""Shows results to people: tables and colour on a terminal, aligned plain text else.

Programs' outputs are shown escaped: a submission must not be able to drive the terminal of who reads its result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalx.messages import Result, Submission, TestResult
from evalx.verdicts import MEANING, PASSED, Verdict

#: Characters of a line that is compared: both must fit side by side on a terminal.
EXCERPT_CHARS = 60
#: Lines of a compiler's output, and of a crashed program's stderr: the first errors, the end of a trace.
COMPILER_LINES = 30
STDERR_LINES = 5

_MIB = 1 << 20
_STYLE = {Verdict.AC: "green", Verdict.OK: "green", Verdict.SK: "dim", Verdict.JE: "magenta"}
_TEST_COLUMNS = ("test", "verdict", "cpu ms", "wall ms", "memory MiB")


def result(outcome: Result, submission: Submission) -> None:
    """The verdict, a table of the tests, and what helps to understand a failure."""
    if outcome.tests:
        rows = [_test_row(test) for test in outcome.tests]
        table(_TEST_COLUMNS, rows, verdict_column=1)
    for text in (*_compiler(outcome), *_explanation(outcome, submission)):
        line(text)
    line(_summary(outcome), style=style_of(outcome.verdict))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, verdict_column: int | None = None) -> None:
    """Rows of text under headings; numbers, all but the first columns, are aligned to the right."""
    console = _console()
    if not console.is_terminal:
        _plain(columns, rows)
        return
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        drawn.add_column(name, justify="right" if _is_numeric(rows, index) else "left", overflow="fold")
    for row in rows:
        cells = [Text(printable(cell)) for cell in row]
        if verdict_column is not None:
            cells[verdict_column].stylize(_style_of_text(row[verdict_column]))
        drawn.add_row(*cells)
    console.print(drawn)


def style_of(verdict: Verdict | None) -> str:
    """The colour of a verdict."""
    return _STYLE.get(verdict, "red") if verdict is not None else "red"


def printable(text: str) -> str:
    """The text with control characters, tabs and line feeds excepted, made visible."""
    return "".join(c if c.isprintable() or c in "\t\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """The text without line feeds and tabs, for a cell."""
    return " ".join(text.split())


def clear() -> None:
    """Begin at the top of the terminal again; nothing where nobody looks."""
    _console().clear()


def milliseconds(value: float) -> str:
    """One decimal."""
    return f"{value:.1f}"


def mebibytes(size: int) -> str:
    """Bytes in MiB, one decimal."""
    return f"{size / _MIB:.1f}"


def _console() -> Console:
    return Console(soft_wrap=True)


def line(text: str, style: str = "") -> None:
    """One line of text, escaped."""
    _console().print(Text(printable(text), style=style))


def _plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    cells = [columns, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    right = [_is_numeric(rows, index) for index in range(len(columns))]
    for row in cells:
        aligned = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ]
        print("  ".join(aligned).rstrip())


def _is_numeric(rows: Sequence[Sequence[str]], index: int) -> bool:
    return index > 0 and all(row[index].replace(".", "", 1).isdigit() or row[index] in ("", "-") for row in rows)


def _style_of_text(verdict: str) -> str:
    return style_of(Verdict(verdict)) if verdict in Verdict.__members__ else ""


def _test_row(test: TestResult) -> tuple[str, ...]:
    if test.verdict is Verdict.SK:
        return test.id, test.verdict, "-", "-", "-"
    cpu, wall = milliseconds(test.cpu_time_ms), milliseconds(test.wall_time_ms)
    return test.id, test.verdict, cpu, wall, mebibytes(test.peak_memory_bytes)


def _compiler(outcome: Result) -> Iterable[str]:
    if outcome.compile is None or outcome.compile.exit_code == 0:
        return
    lines = outcome.compile.output.rstrip().splitlines()
    yield from lines[:COMPILER_LINES]
    if len(lines) > COMPILER_LINES:
        yield f"... {len(lines) - COMPILER_LINES} more lines"


def _explanation(outcome: Result, submission: Submission) -> Iterable[str]:
    """Why the first failing test failed."""
    test = next((one for one in outcome.tests if one.verdict not in PASSED), None)
    if test is None:
        return
    yield f"{test.id}: {MEANING[test.verdict]}{_end(test)}"
    if test.verdict is Verdict.WA:
        expected = next((case.expected_output for case in submission.tests if case.id == test.id), None)
        yield from _difference(expected or "", test)
    elif test.encoding == "utf-8":
        yield from (f"  {line}" for line in test.stderr.rstrip().splitlines()[-STDERR_LINES:])


def _end(test: TestResult) -> str:
    if test.signal is not None:
        return f", signal {test.signal}"
    return f", exit code {test.exit_code}" if test.exit_code else ""


def _difference(expected: str, test: TestResult) -> Iterable[str]:
    """The first line that differs."""
    if test.encoding != "utf-8":
        yield "  the output is not UTF-8"
        return
    wanted, got = expected.rstrip().split("\n"), test.stdout.rstrip().split("\n")
    length = max(len(wanted), len(got))
    pairs = ((_at(wanted, index), _at(got, index)) for index in range(length))
    number, (want, have) = next(
        ((number, pair) for number, pair in enumerate(pairs, 1) if pair[0] != pair[1]), (length, (wanted[-1], got[-1]))
    )
    yield f"  line {number}: expected {_excerpt(want)}"
    yield f"  {' ' * len(f'line {number}: ')}     got {_excerpt(have)}"


def _at(lines: Sequence[str], index: int) -> str | None:
    return lines[index].rstrip() if index < len(lines) else None


def _excerpt(line: str | None) -> str:
    if line is None:
        return "nothing more"
    return repr(line if len(line) <= EXCERPT_CHARS else line[:EXCERPT_CHARS] + "...")


def _summary(outcome: Result) -> str:
    parts = [str(outcome.verdict or outcome.status)]
    if outcome.error is not None:
        where = f"{outcome.error.field}: " if outcome.error.field else ""
        parts.append(f"{where}{outcome.error.message} ({outcome.error.code})")
    if outcome.tests:
        passed = sum(test.verdict in PASSED for test in outcome.tests)
        parts.append(f"{passed} of {len(outcome.tests)} tests passed")
    if outcome.language is not None:
        parts.append(f"{outcome.language} {outcome.version or ''}".strip())
    if outcome.compile is not None:
        cached = " (cached)" if outcome.compile.cached else ""
        parts.append(f"compiled in {outcome.compile.wall_time_ms:.0f} ms{cached}")
    parts.append(f"judged in {outcome.judged_ms:.0f} ms")
    if outcome.source in ("result_cache", "joined"):
        parts.append("from the cache" if outcome.source == "result_cache" else "with an identical submission")
    return ", ".join(parts)

"""The suite without measuring: options, the report, two reports side by side, plots, how it ends."""

from __future__ import annotations

import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench import __main__ as suite
from bench import ci, machine, summary
from bench.command import conclude
from bench.outcome import Figure, Options, Outcome, Plot, Say, Series, Table
from bench.summary import Report
from evalx.errors import UsageError

PLOT = Plot(title="Growth", x_label="tests", y_label="ms", series=[Series(name="one", x=[1, 2], y=[1, 4])], log_x=True)


def figure(name: str, *runs: float, most: float | None = None, least: float | None = None) -> Figure:
    return Figure(name=name, unit="s", runs=list(runs), most=most, least=least)


def outcome(*figures: Figure, bench: str = "headline", wrong: int = 0) -> Outcome:
    table = Table(title="Parts", head=["part", "s"], rows=[["Kafka", "1.25"]])
    return Outcome(bench=bench, figures=list(figures), plots=[PLOT], tables=[table], notes=["A note."], wrong=wrong)


def report(*figures: Figure, size: float = 1.0, **more: str) -> Report:
    return Report(machine={"commit": "abc", **more}, repeats=3, size=size, outcomes=[outcome(*figures)])


def test_the_report_has_every_run_and_what_is_wanted():
    text = summary.as_markdown(report(figure("time", 4.0, 6.0, 5.5, most=5.0), figure("rate", 12345.6)))
    assert "4 6 5.5" in text
    assert "at most 5 s" in text
    assert text.count("**FAIL**") == 1
    assert "12,346 s" in text
    for part in ("| Kafka | 1.25 |", "- A note.", "commit", "## headline"):
        assert part in text
    assert "trial" not in text
    assert "trial of 0.1" in summary.as_markdown(report(figure("time", 4.0), size=0.1))


def test_wrong_verdicts_are_told():
    one = Report(machine={}, repeats=1, size=1.0, outcomes=[outcome(wrong=3), outcome(bench="burst", wrong=1)])
    assert one.wrong == 4
    assert "**3 wrong verdicts or outputs.**" in summary.as_markdown(one)


def test_a_report_can_be_read_again(tmp_path: Path):
    file = tmp_path / "report.json"
    one = report(figure("time", 1.0, 3.0, 2.0, most=5.0))
    file.write_bytes(summary.as_json(one))
    assert summary.load(file) == one
    assert msgspec.json.decode(file.read_bytes())["medians"] == {"headline": {"time": 2.0}}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"machine": 1}', None])
def test_what_is_no_report_is_named(tmp_path: Path, content: bytes | None):
    file = tmp_path / "some.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"some\.json is no report"):
        summary.load(file)


def rows_of(earlier: Report, now: Report) -> dict[str, list[str]]:
    text = summary.as_markdown(now, earlier=earlier).partition("## Compared")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[1]: row[2:] for row in rows[2:]}


def test_two_reports_side_by_side():
    earlier = report(
        figure("time", 4.0, most=5.0), figure("rate", 2.0, least=1.0), figure("same", 1.0), figure("gone", 1.0),
        figure("worse", 4.0, most=9.0),
    )  # fmt: skip
    now = report(
        figure("time", 6.0, most=5.0), figure("rate", 3.0, least=1.0), figure("same", 1.05), figure("new", 1.0),
        figure("worse", 5.0, most=9.0),
    )  # fmt: skip
    rows = rows_of(earlier, now)
    assert rows["time"] == ["4 s", "6 s", "+50.0 %", "**fails now**"]
    assert rows["rate"] == ["2 s", "3 s", "+50.0 %", "better"]
    assert rows["same"] == ["1 s", "1.05 s", "+5.0 %", ""]
    assert rows["worse"] == ["4 s", "5 s", "+25.0 %", "worse"]
    assert rows["gone"] == ["1 s", "not measured", "-", ""]
    assert rows["new"] == ["not measured", "1 s", "-", ""]
    assert rows_of(now, earlier)["time"][-1] == "passes now"


def test_other_machines_and_amounts_are_told():
    text = summary.as_markdown(report(figure("time", 1.0), kernel="7"), earlier=report(figure("time", 1.0), size=0.5))
    for line in ("- kernel: -, now 7", "- size: 0.5, now 1"):
        assert line in text
    assert "- commit" not in text


def test_nothing_to_compare_with():
    assert rows_of(report(figure("time")), report(figure("time", 1.0)))["time"][2:] == ["-", ""]
    assert rows_of(report(figure("time", 0.0)), report(figure("time", 1.0)))["time"][2:] == ["-", ""]


def test_the_report_is_written_with_its_plots(tmp_path: Path):
    suite.write(report(figure("time", 1.0)), tmp_path / "some" / "report", None)
    assert {path.name for path in (tmp_path / "some" / "report").iterdir()} == {
        "headline-1.svg", "report.md", "report.json",
    }  # fmt: skip
    drawn = (tmp_path / "some" / "report" / "headline-1.svg").read_text()
    assert "<svg" in drawn
    assert "Growth" in drawn
    assert "![Growth](headline-1.svg)" in (tmp_path / "some" / "report" / "report.md").read_text()
    suite.write(report(figure("time", 1.0)), tmp_path, None)
    assert (tmp_path / "headline-1.svg").read_text() == drawn


def test_options():
    given = suite.parse(["headline", "ci", "--size", "0.1", "--repeats", "2", "--go-judge", "x", "--report", "d"])
    assert (given.bench, given.size, given.repeats, given.go_judge) == (["headline", "ci"], 0.1, 2, Path("x"))


@pytest.mark.parametrize("wrong", [[], ["nothing"], ["all", "--size", "0"], ["all", "--size", "2"], ["all", "--x"]])
def test_wrong_usage_says_so(wrong: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        suite.parse(wrong)
    assert "usage: python -m bench" in capsys.readouterr().err


def test_help_names_every_bench_and_shows_examples(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        suite.parse(["--help"])
    said = capsys.readouterr().out
    for name in (*suite.BENCHES, "ci", "all", "examples:"):
        assert name in said


@pytest.mark.parametrize("name", [*suite.BENCHES, ci.NAME])
def test_each_bench_keeps_to_the_form(name: str):
    bench = suite.find(name)
    assert name == bench.NAME
    assert (bench.__doc__ or "").strip()


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Outcome | BaseException], None]:
    """Puts benches that do not measure into the suite, and no machine is asked."""
    monkeypatch.setattr(suite, "BENCHES", ())
    monkeypatch.setattr(machine, "describe_stack", lambda languages, go_judge: {"commit": "abc"})

    def add(name: str, done: Outcome | BaseException) -> None:
        async def measure(options: Options, say: Say) -> Outcome:
            say(f"run {options.repeats} of 5")
            if isinstance(done, BaseException):
                raise done
            return done

        module = types.ModuleType(f"bench.{name}")
        vars(module).update(NAME=name, measure=measure, __doc__="A bench.")
        monkeypatch.setitem(sys.modules, f"bench.{name}", module)
        monkeypatch.setattr(suite, "BENCHES", (*suite.BENCHES, name))

    return add


Adder = Callable[[str, Outcome | BaseException], None]


def test_all_are_measured_and_written(benches: Adder, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    benches("one", outcome(figure("time", 9.0, most=5.0), bench="one"))
    benches("two", outcome(bench="two"))
    assert suite.main(["all", "--json", str(tmp_path / "now.json")]) == 0
    said = capsys.readouterr()
    assert said.out.index("## one") < said.out.index("## two")
    assert "one: run 5 of 5" in said.err
    assert suite.main(["one", "--compare", str(tmp_path / "now.json")]) == 0
    assert "+0.0 %" in capsys.readouterr().out


def test_one_that_cannot_run_does_not_stop_the_others(benches: Adder, capsys: pytest.CaptureFixture[str]):
    benches("one", RuntimeError("no Docker"))
    benches("two", outcome(bench="two"))
    assert suite.main(["all"]) == 2
    said = capsys.readouterr()
    assert "bench: one: no Docker" in said.err
    assert "## two" in said.out


def test_stopped_it_shows_what_there_is(benches: Adder, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    benches("one", outcome(bench="one"))
    benches("two", KeyboardInterrupt())
    benches("three", outcome(bench="three"))
    assert suite.main(["all", "--json", str(tmp_path / "now.json")]) == 130
    assert "two: stopped" in capsys.readouterr().err
    assert [one.bench for one in summary.load(tmp_path / "now.json").outcomes] == ["one"]


def test_wrong_verdicts_fail(benches: Adder):
    benches("one", outcome(bench="one", wrong=1))
    assert suite.main(["one"]) == 1


def test_what_to_compare_with_is_read_first(benches: Adder, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    benches("one", RuntimeError("it was measured"))
    assert suite.main(["one", "--compare", str(tmp_path / "none.json")]) == 2
    assert "it was measured" not in capsys.readouterr().err


def test_how_a_bench_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "figures.json"

    def stop() -> int:
        raise KeyboardInterrupt

    def told_to_stop() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 3

    def fail() -> int:
        raise OSError("no space")

    assert conclude(lambda: 3, "three {}".format, file, wrong=lambda done: done > 3) == 0
    assert (file.read_text(), capsys.readouterr().out) == ("3", "three 3\n")
    assert conclude(lambda: 4, str, None, wrong=lambda done: done > 3) == 1
    assert conclude(stop, str, None, wrong=bool) == 130
    assert conclude(told_to_stop, str, None, wrong=bool) == 130
    assert conclude(fail, str, None, wrong=bool) == 2
    assert capsys.readouterr().err == "bench: stopped\nbench: stopped\nbench: no space\n"

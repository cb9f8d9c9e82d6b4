"""What of the bench can be checked without measuring: options, medians, verdicts on the musts, the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import beside, gateway, gojudge, measure, report, sandbox, workload
from bench.accuracy import CpuTime, PeakMemory
from bench.measure import Plan, Sample, Series
from evalx.execution import Artifact
from evalx.languages import Registry
from evalx.messages import TestCase
from evalx.sandbox.protocol import File

REGISTRY = Registry.load()


def sample(rate: float, wrong: int = 0, **cpu_ms: float) -> Sample:
    return Sample(tests=int(rate), seconds=1.0, wrong=wrong, cpu_ms=cpu_ms)


def series(name: str, *rates: float, wrong: int = 0) -> Series:
    samples = [sample(rate, wrong, loop=rate / 100) for rate in rates]
    return Series(name=name, setting=2, unit="at a time", batches=3, tried={"2": rates[0]}, samples=samples)


def make_report(*measured: Series, language: str = "c", **more: object) -> report.Report:
    title = REGISTRY.resolve(language).title
    one = report.LanguageReport(language=language, version="17", title=title, compile_ms=51.2, series=list(measured))
    given = {"cpu_time": None, "peak_memory": [], **more}
    return report.Report(machine={"kernel": "Linux"}, tests_per_batch=20, repeats=3, languages=[one], **given)


class Fake:
    """Twice as fast with two at a time, and slower with more."""

    name, unit = "fake", "at a time"
    settings: Sequence[int] = (1, 2, 4)

    def __init__(self, log: list[tuple[str, int, int]], name: str = "fake") -> None:
        self.name, self._log = name, log

    async def run(self, batches: int, setting: int) -> Sample:
        self._log.append((self.name, batches, setting))
        rate = {1: 100.0, 2: 200.0, 4: 150.0}[setting]
        return Sample(tests=20 * batches, seconds=20 * batches / rate, wrong=0, cpu_ms={})


def test_options():
    options = sandbox.parse(["--languages", "c,java-25", "--parallel", "1,3", "--batches", "7", "--json", "x"])
    assert (options.languages, options.parallel, options.batches) == (("c", "java-25"), (1, 3), 7)
    assert (options.tests, options.repeats, options.json) == (20, 5, Path("x"))


@pytest.mark.parametrize(
    "arguments", [["--parallel", "0"], ["--parallel", "x"], ["--tests", "-1"], ["--batches", ""], ["--lang", "c", "y"]]
)
def test_wrong_options(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        sandbox.parse(arguments)
    assert "usage: python -m bench.sandbox" in capsys.readouterr().err


def test_a_language_that_is_not_known(capsys: pytest.CaptureFixture[str]):
    assert sandbox.main(["--languages", "cobol"]) == 2
    assert "no language 'cobol'" in capsys.readouterr().err


def test_each_language_has_its_program():
    for name in workload.DEFAULT_LANGUAGES:
        language = workload.resolve(REGISTRY, name)
        assert workload.source(language)
        assert language.name in workload.MUSTS


def test_tests_are_distinct_and_right():
    tests = workload.make_tests(20)
    assert len({test.stdin for test in tests}) == 20
    assert tests == workload.make_tests(20)
    values = sorted(map(int, tests[0].stdin.split()[1:]))
    assert tests[0].expected_output == f"{sum(values)} {values[10]} {len(set(values))}\n"


def test_a_bare_judge_has_no_archive_of_ours():
    for language in REGISTRY.languages:
        assert not any("/opt/evalx" in word for word in workload.plain_argv(language))
    assert workload.plain_argv(REGISTRY.resolve("python")) == ("python3", "-I", "-S", "/box/main.py")
    assert workload.plain_argv(REGISTRY.resolve("c")) == ("/box/main",)
    assert workload.plain_argv(REGISTRY.resolve("javascript"))[0] == "node"
    assert "-Xmx256m" in workload.plain_argv(REGISTRY.resolve("java"))


def test_medians():
    measured = series("evalx", 300, 100, 200)
    assert measured.median == 200
    assert measured.cpu_ms == {"loop": 2.0}
    assert series("evalx", 1, 2, wrong=3).wrong == 6


def test_a_part_that_could_not_be_read_once():
    measured = Series(
        name="x", setting=1, unit="", batches=1, tried={}, samples=[sample(1, a=1.0, b=2.0), sample(1, a=3.0)]
    )
    assert measured.cpu_ms == {"a": 2.0, "b": 2.0}


async def test_contenders_take_turns_at_their_best_setting():
    log: list[tuple[str, int, int]] = []
    plan = Plan(repeats=2, seconds=3.0, batches=None)
    measured = await measure.compare([Fake(log, "a"), Fake(log, "b")], plan, lambda _: None)
    assert [one.setting for one in measured] == [2, 2]
    assert measured[0].tried == {"1": 100.0, "2": 200.0, "4": 150.0}
    # 3 s at 10 batches a second.
    assert log[-4:] == [("a", 30, 2), ("b", 30, 2)] * 2


async def test_a_number_of_batches_that_was_given():
    log: list[tuple[str, int, int]] = []
    await measure.compare([Fake(log)], Plan(repeats=1, seconds=3.0, batches=5), lambda _: None)
    assert log[-1] == ("fake", 5, 2)


def test_the_usual_build_is_shown_and_no_must():
    text = report.as_markdown(
        make_report(series("evalx", 200), series("bare loop", 100), series(workload.USUAL_BUILD, 50))
    )
    assert "plain -O2 | for comparison | 4.00x        | -  " in text
    assert workload.usual_build(Registry.load().resolve("python")) is None
    assert "gcc" in (workload.usual_build(Registry.load().resolve("c")) or ())
    assert "-O2" in (workload.usual_build(Registry.load().resolve("cpp")) or ())


def test_musts():
    text = report.as_markdown(make_report(series("evalx", 200), series("bare loop", 100), series("go-judge", 20)))
    assert "against bare loop | at least 2x  | 2.00x    | pass" in text
    assert workload.USUAL_BUILD not in text
    assert "against go-judge  | at least 12x | 10.00x   | **FAIL**" in text
    assert "C17 (GCC) 51 ms" in text


def test_without_go_judge():
    text = report.as_markdown(make_report(series("evalx", 200), series("bare loop", 100)))
    assert "against go-judge  | at least 12x | not measured | -" in text


def test_accuracy():
    assert CpuTime(200.0, 210.0).passed
    assert not CpuTime(200.0, 189.0).passed
    assert PeakMemory(200, 212.0).passed
    assert not PeakMemory(16, 18.9).passed
    text = report.as_markdown(
        make_report(series("evalx", 1), cpu_time=CpuTime(200.0, 230.0), peak_memory=[PeakMemory(64, 64.5)])
    )
    assert "15.0% (200.0 ms idle, 230.0 ms busy) | **FAIL**" in text
    assert "64.5 MiB" in text


def test_wrong_outputs_are_counted_over_all_contenders():
    assert make_report(series("evalx", 1), series("bare loop", 1, 2, wrong=1)).wrong == 2


def test_json():
    done = json.loads(report.as_json(make_report(series("evalx", 100, 300, 200), series("bare loop", 50))))
    assert done["medians"] == {"C17 (GCC)": {"evalx": 200.0, "bare loop": 50.0}}
    assert done["languages"][0]["series"][0]["samples"][1]["tests"] == 300


def test_tables_are_even():
    lines = report.table(["a", "bb"], [["xxx", "y"]]).splitlines()
    assert lines == ["| a   | bb |", "| --- | -- |", "| xxx | y  |"]


def test_what_go_judge_is_asked():
    asked = gojudge.command(["/box/main"], ["A=1"], TestCase(id="1", stdin="5"), {"main": "id-1"})
    assert (asked["args"], asked["copyIn"]) == (["/w/main"], {"main": {"fileId": "id-1"}})
    assert asked["files"][0] == {"content": "5"}
    assert "source: /opt, target: /opt, readonly: true" in gojudge.mounts()


def test_an_artifact_is_laid_out_as_in_the_sandbox(tmp_path: Path):
    files = (File("classes/Main.class", b"x"), File("main", b"y", 0o755))
    sandbox.write_artifact(tmp_path, Artifact(None, files))
    assert (tmp_path / "classes" / "Main.class").read_bytes() == b"x"
    assert (tmp_path / "main").stat().st_mode & 0o777 == 0o755


def test_the_gateways_report_says_what_was_asked_for():
    figures = gateway.Figures(
        batches=10, tests_per_batch=20, connections=5, burst_s=2.0, accept_ms=3.0, produce_ms=1.0, answer_ms=9.0,
        client_ms=5.0, wrong=1,
    )  # fmt: skip
    assert [met for _, _, met in figures.musts] == [False, True, False]
    assert "100 tests/s" in gateway.as_markdown(figures)
    assert gateway.parse(["--batches", "7"]).batches == 7
    assert gateway.small().id != gateway.small().id


def test_the_group_of_a_container_is_found_in_either_version_of_cgroups():
    one = "5:cpuset:/x\n4:cpu,cpuacct:/docker/abc\n0::/\n"
    assert beside._cpu_groups(one) == [Path("/sys/fs/cgroup/cpu,cpuacct/docker/abc")]
    assert beside._cpu_groups("0::/system.slice/docker-abc.scope\n") == [
        Path("/sys/fs/cgroup/system.slice/docker-abc.scope")
    ]

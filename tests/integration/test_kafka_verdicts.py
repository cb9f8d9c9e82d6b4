"""The verdict of every way in which a program can go wrong, in every language, through Kafka."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from integration_stack import Document, Topics, submission

LANGUAGES = ("c", "cpp", "python", "java", "javascript")
MIB = 1 << 20

#: Only the limit that a program is meant to hit is tight: other limits must not be hit first on a busy machine.
LIMITS: dict[str, Document] = {
    "wrong_answer": {"cpu_time_ms": 5000, "wall_time_ms": 60_000},
    "endless_loop": {"cpu_time_ms": 500, "wall_time_ms": 60_000},
    "crash": {"cpu_time_ms": 5000, "wall_time_ms": 60_000},
    "compile_error": {"cpu_time_ms": 5000, "wall_time_ms": 60_000},
    "memory_hog": {"cpu_time_ms": 10_000, "wall_time_ms": 60_000, "memory_bytes": 64 * MIB},
    "output_flood": {"cpu_time_ms": 10_000, "wall_time_ms": 60_000, "output_bytes": 64 << 10},
}
VERDICTS = {
    "wrong_answer": "WA",
    "endless_loop": "TLE",
    "crash": "RTE",
    "compile_error": "CE",
    "memory_hog": "MLE",
    "output_flood": "OLE",
}
#: Languages whose syntax errors are found when the program runs.
NOT_COMPILED = ("python", "javascript")
CASES = [(language, case) for language in LANGUAGES for case in VERDICTS]
VERSIONS = [
    ("c", "17", "sum"),
    ("c", "23", "sum_23"),
    ("cpp", "17", "sum"),
    ("cpp", "20", "sum_20"),
    ("cpp", "23", "sum_23"),
    ("python", "3.13", "sum"),
    ("java", "21", "sum"),
    ("java", "25", "sum_25"),
    ("javascript", "20", "sum"),
]


@pytest.fixture(scope="module")
async def judged(topics: Topics) -> dict[tuple[str, str], Document]:
    """The thirty submissions, all produced at once."""
    documents = [submission(language, case, limits=LIMITS[case]) for language, case in CASES]
    results = await topics.judge(*documents)
    return dict(zip(CASES, results, strict=True))


@pytest.mark.parametrize(("language", "case"), CASES)
async def test_each_fault_has_its_verdict(judged: dict[tuple[str, str], Document], language: str, case: str):
    result = judged[language, case]
    compiles = language not in NOT_COMPILED
    wanted = VERDICTS[case] if compiles or case != "compile_error" else "RTE"
    assert (result["verdict"], result["error"]) == (wanted, None), result
    assert result["status"] == ("compile_error" if wanted == "CE" else "judged")
    assert (result["compile"] is not None) == compiles
    if wanted == "CE":
        assert result["compile"]["exit_code"] == 1
        assert result["compile"]["output"]
        assert result["tests"] == []
    else:
        (test,) = result["tests"]
        assert test["verdict"] == wanted
        assert len(test["stdout"].encode()) <= 64 << 10
        assert test["stdout_truncated"] == (wanted == "OLE")
        assert test["stderr_truncated"] is False


@pytest.mark.parametrize(
    ("language", "exit_code", "signal_number"),
    [
        ("c", None, signal.SIGSEGV),
        ("cpp", None, signal.SIGABRT),
        ("python", 1, None),
        ("java", 1, None),
        ("javascript", 1, None),
    ],
)
async def test_a_crash_says_how(
    judged: dict[tuple[str, str], Document], language: str, exit_code: int | None, signal_number: int | None
):
    (test,) = judged[language, "crash"]["tests"]
    assert (test["exit_code"], test["signal"]) == (exit_code, signal_number)
    if language != "c":
        assert "nobody catches this" in test["stderr"]


async def test_limits_are_measured(judged: dict[tuple[str, str], Document]):
    for language in LANGUAGES:
        (loop,) = judged[language, "endless_loop"]["tests"]
        assert loop["cpu_time_ms"] >= 500, language
    for language in ("c", "cpp", "python"):
        (hog,) = judged[language, "memory_hog"]["tests"]
        # The last block, which did not fit, need not be counted.
        assert hog["peak_memory_bytes"] > 60 * MIB, language


@pytest.fixture(scope="module")
async def by_version(topics: Topics) -> dict[tuple[str, str], Document]:
    """A right program for each version, in the newest words that the version knows."""
    relaxed = {"cpu_time_ms": 5000, "wall_time_ms": 60_000}
    tests = [
        {"stdin": "1 2\n", "expected_output": "3\n"},
        {"stdin": "-5 5\n7 8\n", "expected_output": "0\n15\n"},
    ]
    documents = [submission(lang, case, version=v, limits=relaxed, tests=tests) for lang, v, case in VERSIONS]
    results = await topics.judge(*documents)
    return {(language, version): result for (language, version, _), result in zip(VERSIONS, results, strict=True)}


@pytest.mark.parametrize(("language", "version", "_case"), VERSIONS)
async def test_a_right_program_is_accepted(
    by_version: dict[tuple[str, str], Document], language: str, version: str, _case: str
):
    result = by_version[language, version]
    assert (result["status"], result["verdict"]) == ("judged", "AC"), result
    assert (result["language"], result["version"]) == (language, version)
    assert [test["verdict"] for test in result["tests"]] == ["AC", "AC"]
    for test in result["tests"]:
        assert (test["exit_code"], test["signal"]) == (0, None)
        assert test["wall_time_ms"] > 0
        assert test["peak_memory_bytes"] > 0


@pytest.mark.parametrize(("language", "version", "case"), [("c", "17", "sum_23"), ("cpp", "17", "sum_20")])
async def test_a_version_is_not_a_newer_one(topics: Topics, language: str, version: str, case: str):
    (result,) = await topics.judge(submission(language, case, version=version))
    assert result["verdict"] == "CE", result


async def judge_c(topics: Topics, case: str, **fields: Any) -> Document:
    (result,) = await topics.judge(submission("c", case, **fields))
    return result


async def test_nothing_to_compare_is_ok(topics: Topics):
    tests: list[Document] = [{"stdin": "1 2\n"}, {"stdin": "2 3\n", "expected_output": None}]
    result = await judge_c(topics, "sum", tests=tests)
    assert [test["verdict"] for test in result["tests"]] == ["OK", "OK"]
    assert [test["stdout"] for test in result["tests"]] == ["3\n", "5\n"]
    assert result["verdict"] == "OK"


async def test_one_compared_test_makes_it_accepted(topics: Topics):
    result = await judge_c(topics, "sum", tests=[{}, {"stdin": "1 2\n", "expected_output": "3\n"}])
    assert [test["verdict"] for test in result["tests"]] == ["OK", "AC"]
    assert result["verdict"] == "AC"


async def test_the_first_failing_test_decides(topics: Topics):
    tests = [
        {"stdin": "1 2\n", "expected_output": "3\n"},
        {"stdin": "1 2\n", "expected_output": "4\n"},
        {"stdin": "5 5\n", "expected_output": "10\n"},
    ]
    result = await judge_c(topics, "sum", tests=tests)
    assert [test["verdict"] for test in result["tests"]] == ["AC", "WA", "AC"]
    assert result["verdict"] == "WA"


async def test_the_tests_after_a_failure_are_skipped(topics: Topics):
    right, wrong = {"stdin": "1 2\n", "expected_output": "3\n"}, {"stdin": "1 2\n", "expected_output": "4\n"}
    result = await judge_c(topics, "sum", tests=[right, wrong, *[right] * 20], stop_on_failure=True)
    assert [test["verdict"] for test in result["tests"]] == ["AC", "WA", *["SK"] * 20]
    assert result["verdict"] == "WA"
    skipped = result["tests"][-1]
    assert (skipped["id"], skipped["exit_code"], skipped["stdout"], skipped["wall_time_ms"]) == ("22", None, "", 0)


async def test_a_sleeping_program_runs_into_the_wall(topics: Topics):
    result = await judge_c(topics, "sleeper", limits={"wall_time_ms": 700})
    (test,) = result["tests"]
    assert test["verdict"] == "TLE"
    assert test["wall_time_ms"] >= 700
    assert test["cpu_time_ms"] < 500


async def test_the_whole_process_tree_counts_and_ends(topics: Topics):
    result = await judge_c(topics, "double_fork", limits={"cpu_time_ms": 2000, "wall_time_ms": 60_000})
    # The program itself ends at once; what it left behind is killed and must not disturb the next one.
    assert result["verdict"] == "AC", result
    assert (await judge_c(topics, "sum", cache="bypass"))["verdict"] == "AC"


async def test_an_exit_code_is_a_runtime_error(topics: Topics):
    result = await judge_c(topics, "exit_three")
    (test,) = result["tests"]
    assert (test["verdict"], test["exit_code"], test["signal"]) == ("RTE", 3, None)
    assert result["verdict"] == "RTE"

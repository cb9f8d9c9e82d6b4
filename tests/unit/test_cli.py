"""The command line: exit codes, one-line errors, help with examples. Judging itself is replaced."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from typer.testing import CliRunner

from evalx.cli import app, judging, local, show
from evalx.cli.judging import exit_code
from evalx.cli.local import judge_locally
from evalx.cli.progress import Progress
from evalx.doctor import Check
from evalx.errors import DockerUnavailableError, SandboxFaultError, ServiceUnavailableError
from evalx.messages import CompileReport, ErrorInfo, Result, TestResult, decode_result
from evalx.settings import Settings
from evalx.testing import FakeSandbox, Ran
from evalx.verdicts import Outcome, Verdict

PACKAGES = Path(__file__).parents[1] / "data" / "packages"
COMMANDS = (
    *("judge", "submit", "worker", "topics create", "doctor", "schema", "samples", "lag", "top"),
    *("dead-letters list", "dead-letters show", "dead-letters replay"),
)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command sets up logging for its own process; here it must not outlive the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with main.py and tests/; the current directory."""
    (tmp_path / "main.py").write_text("print(input())")
    (tmp_path / "main.cpp").write_text("int main() {}")
    (tmp_path / "tests").mkdir()
    for name in ("1", "2"):
        (tmp_path / "tests" / f"{name}.in").write_text(f"{name}\n")
        (tmp_path / "tests" / f"{name}.ans").write_text(f"{name}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> FakeSandbox:
    """Stands in for Docker; echoes stdin unless it is given another program."""
    fake = FakeSandbox()

    class Runtime:
        def __init__(self, settings: Settings, images: list[str], interpreters: Any) -> None:
            self.toolchain, self.execute = fake.toolchain, fake.execute

        async def start(self, **_labels: Any) -> None:
            pass

        async def close(self) -> None:
            pass

        async def find_containers(self, labels: dict[str, str]) -> list[Any]:
            return []

    monkeypatch.setattr(local, "SandboxRuntime", Runtime)
    return fake


def evalx(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), prog_name="evalx", env={"TERM": "dumb", "COLUMNS": "120"})


def judge(*options: str, source: str = "main.py") -> Any:
    return evalx("judge", source, "--tests", "tests", *options)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str):
    result = evalx(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Example: " in result.output
    assert "Exit codes: " in result.output


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["judge"], "source"),
        (["judge", "main.py"], "--problem DIR"),
        (["judge", "main.py", "--tests", "tests", "--problem", "."], "either with --tests DIR"),
        (["submit", "main.py", "--problem", "."], "is not a problem package"),
        (["judge", "main.py", "--tests", "tests", "--only", "1"], "--only is for --problem"),
        (["judge", "missing.py", "--tests", "tests"], "does not exist"),
        (["judge", "main.py", "--tests", "missing"], "is not a directory of tests"),
        (["judge", "main.py", "--tests", "tests", "--cpu-time-ms", "x"], "x"),
        (["judge", "main.py", "--tests", "tests", "--cpu-time-ms", "0"], "greater than or equal to 1"),
        (["judge", "main.py", "--tests", "tests", "--memory", "much"], "is not a size"),
        (["judge", "main.py", "--tests", "tests", "--memory", "100g"], "limits.memory_bytes"),
        (["judge", "main.py", "--tests", "tests", "--language", "cobol"], "cobol"),
        (["judge", "main.py", "--tests", "tests", "--version", "2"], "installed: 3.13"),
        (["judge", "main.py", "--tests", "tests", "--checker", "fuzzy"], "checker.kind"),
        (["judge", "main.py", "--tests", "tests", "--colour"], "--colour"),
        (["submit", "main.py", "--tests", "tests", "--priority", "urgent"], "there are: high, normal, low"),
        (["submit", "main.py", "--tests", "tests", "--id", "a b"], "id"),
        (["schema", "--write", "a", "--check", "b"], "exclude each other"),
        (["samples", "missing"], "is not a directory"),
        (["samples", "tests"], "has no problems"),
        (["lag", "--interval", "5"], "--interval is for --watch"),
        (["top"], "add --once or --json"),
        (["top", "--once", "--worker", "a/b"], "is not the address of a worker"),
        (["dead-letters", "replay"], "or --all"),
        (["dead-letters", "replay", "--all", "--rate", "0"], "rate"),
        (["dead-letters", "list", "--lane", "urgent"], "there are: high, normal, low"),
        (["dead-letters", "list", "--since", "yesterday"], "is not a time"),
        (["dead-letters", "show", "17"], "is not a place"),
        (["dead-letters", "show", "4:17", "--raw", "--json"], "exclude each other"),
        (["dance"], "dance"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(problem: Path, arguments: list[str], what: str):
    result = evalx(*arguments)
    assert result.exit_code == 2
    assert what in result.stderr
    assert "Traceback" not in result.output


def test_a_wrong_variable_is_wrong_usage(problem: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EVALX_CPU_SLOTS", "many")
    result = judge()
    assert result.exit_code == 2
    assert result.stderr.startswith("evalx: EVALX_CPU_SLOTS: ")


def test_accepted_is_0_and_a_table(problem: Path, sandbox: FakeSandbox):
    result = judge()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["test", "verdict", "cpu", "ms", "wall", "ms", "memory", "MiB"]
    assert lines[1].split() == ["1", "AC", "1.0", "2.0", "1.0"]
    assert lines[-1].startswith("AC, 2 of 2 tests passed, python 3.13, judged in ")


def test_a_problem_package(sandbox: FakeSandbox):
    sandbox._program = lambda stdin: stdin.upper()
    shout = PACKAGES / "shout"
    result = evalx("judge", str(shout / "submissions/accepted/shout.py"), "--problem", str(shout))
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:-1]] == [["sample/1", "AC"], ["secret/2", "AC"]]
    assert result.stderr.startswith("evalx: memory_bytes of 4096 MiB is over this installation's maximum")
    bounds = sandbox.jobs[0].bounds
    assert (bounds.cpu_time_ms, bounds.output_bytes) == (1500, 8 << 20)


def test_options_win_over_a_package(sandbox: FakeSandbox):
    shout = PACKAGES / "shout"
    options = ["--cpu-time-ms", "700", "--checker", "tokens", "--only", "sample/*"]
    result = evalx("judge", str(shout / "submissions/accepted/shout.py"), "--problem", str(shout), *options)
    assert (result.exit_code, sandbox.jobs[0].bounds.cpu_time_ms) == (1, 700)
    assert "1: wrong answer" in result.stdout


def test_a_package_whose_json_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Line feeds take two bytes in JSON, so the files' sizes alone do not tell."""
    monkeypatch.setenv("EVALX_MAX_MESSAGE_BYTES", str(1 << 20))
    (tmp_path / "main.py").write_text("")
    (tmp_path / "problem.yaml").write_text("")
    (tmp_path / "data/secret").mkdir(parents=True)
    (tmp_path / "data/secret/1.in").write_text("\n" * 700_000)
    (tmp_path / "data/secret/1.ans").write_text("")
    result = evalx("judge", str(tmp_path / "main.py"), "--problem", str(tmp_path))
    assert result.exit_code == 2
    assert "1.3 MiB, one submission may have 1.0 MiB; judge it in parts" in result.stderr


def test_a_wrong_answer_is_1_and_shows_where(problem: Path, sandbox: FakeSandbox):
    sandbox._program = lambda stdin: b"1\n"
    result = judge()
    assert result.exit_code == 1
    assert "2: wrong answer" in result.stdout
    assert "line 1: expected '2'" in result.stdout
    assert "got '1'" in result.stdout


def test_stop_on_failure(problem: Path, sandbox: FakeSandbox):
    sandbox._program = lambda stdin: b"2\n"
    result = judge("--stop-on-failure")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[2].split() == ["2", "SK", "-", "-", "-"]


def test_a_crash_shows_the_end_of_stderr_escaped(problem: Path, sandbox: FakeSandbox):
    sandbox._program = lambda stdin: Ran(exit_code=1, stderr=b"a\nb\nc\nd\ne\n\x1b[2Jlast\n")
    result = judge()
    assert result.exit_code == 1
    assert "1: runtime error, exit code 1" in result.stdout
    assert "\\x1b[2Jlast" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\n  a\n" not in result.stdout


def test_a_compile_error_shows_what_the_compiler_said(problem: Path, sandbox: FakeSandbox):
    sandbox._compiler = lambda source: Ran(exit_code=1, stdout=b"main.cpp:1: error\n" * 50)
    result = judge(source="main.cpp")
    assert result.exit_code == 1
    assert "main.cpp:1: error" in result.stdout
    assert "... 20 more lines" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("CE, cpp 17, compiled in ")


def test_json_is_the_result_as_on_the_topic(problem: Path, sandbox: FakeSandbox):
    result = judge("--json", source="main.cpp")
    assert result.exit_code == 0
    decoded = decode_result(result.stdout.encode())
    assert (decoded.lane, decoded.attempt, decoded.status, decoded.verdict) == ("local", 1, "judged", Verdict.AC)
    assert [test.id for test in decoded.tests] == ["1", "2"]


def test_options_reach_the_job(problem: Path, sandbox: FakeSandbox):
    judge("--cpu-time-ms", "500", "--wall-time-ms", "900", "--memory", "64m", "--output", "1k", "--processes", "3")
    bounds = sandbox.jobs[0].bounds
    assert (bounds.cpu_time_ms, bounds.wall_time_ms, bounds.output_bytes) == (500, 900, 1024)
    assert bounds.memory_bytes >= 64 << 20


def test_a_judge_error_is_3(problem: Path, sandbox: FakeSandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("evalx.engine.RETRY_PAUSES_S", ())
    sandbox._faults = [SandboxFaultError(message="container died")]
    result = judge()
    assert result.exit_code == 3
    assert result.stdout.startswith("JE, container died (sandbox_fault)")


@pytest.mark.parametrize(
    "error", [DockerUnavailableError(message="no\ndaemon"), ServiceUnavailableError("Kafka", "here", "why")]
)
def test_an_unreachable_service_is_3_and_one_line(
    problem: Path, sandbox: FakeSandbox, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    async def fail(*_args: Any) -> None:
        raise error

    monkeypatch.setattr(judging, "judge_locally", fail)
    result = judge()
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == f"evalx: {' '.join(str(error).split())}\n"


def test_a_defect_is_one_line_too(problem: Path, monkeypatch: pytest.MonkeyPatch):
    async def fail(*_args: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(judging, "judge_locally", fail)
    result = judge()
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert "ZeroDivisionError" in result.stderr


def test_ctrl_c_is_130(problem: Path, monkeypatch: pytest.MonkeyPatch):
    async def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "judge_locally", interrupt)
    assert judge().exit_code == 130


def make_result(**fields: Any) -> Result:
    given = {"id": "s", "status": "judged", "verdict": Verdict.AC, "lane": "normal", "worker": "w", **fields}
    return Result(**given)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"verdict": Verdict.AC}, 0),
        ({"verdict": Verdict.OK}, 0),
        *(({"verdict": Verdict[name]}, 1) for name in ("WA", "TLE", "MLE", "OLE", "RTE")),
        ({"verdict": Verdict.CE, "status": "compile_error"}, 1),
        ({"verdict": None, "status": "rejected"}, 2),
        ({"verdict": Verdict.JE, "status": "judge_error"}, 3),
        ({"verdict": Verdict.JE}, 3),
    ],
)
def test_exit_codes_of_the_contract(fields: dict[str, Any], code: int):
    assert exit_code(make_result(**fields)) == code


def test_a_rejection_and_a_cached_answer_are_explained(capsys: pytest.CaptureFixture[str]):
    error = ErrorInfo("conflict", "used before", "id")
    show.result(make_result(status="rejected", verdict=None, source=None, error=error), msgspec.UNSET)  # type: ignore[arg-type]
    report = CompileReport(exit_code=0, wall_time_ms=5, cached=True)
    show.result(make_result(source="result_cache", compile=report, language="c", version="17"), msgspec.UNSET)  # type: ignore[arg-type]
    first, second = capsys.readouterr().out.splitlines()
    assert first == "rejected, id: used before (conflict), judged in 0 ms"
    assert second == "AC, c 17, compiled in 5 ms (cached), judged in 0 ms, from the cache"


@pytest.mark.parametrize(
    ("stdout", "expected", "lines"),
    [
        ("1\n2\n", "1\n3\n", ["line 2: expected '3'", "got '2'"]),
        ("1\n", "1\n2\n", ["line 2: expected '2'", "got nothing more"]),
        ("1\n2\n", "1\n", ["line 2: expected nothing more", "got '2'"]),
        ("", "1\n", ["line 1: expected '1'", "got ''"]),
        ("a b\n", "a  b \n", ["line 1: expected 'a  b'", "got 'a b'"]),
        ("1 \n", "1\n", ["line 1: expected '1'", "got '1'"]),
    ],
)
def test_the_first_difference(stdout: str, expected: str, lines: list[str]):
    test = TestResult(id="1", verdict=Verdict.WA, stdout=stdout)
    shown = [line.strip() for line in show._difference(expected, test)]
    assert shown == lines


def test_schema_check_fails_on_drift(tmp_path: Path):
    assert evalx("schema", "--write", str(tmp_path)).exit_code == 0
    assert evalx("schema", "--check", str(tmp_path)).exit_code == 0
    (tmp_path / "result.schema.json").write_text("{}")
    result = evalx("schema", "--check", str(tmp_path))
    assert result.exit_code == 1
    assert "result.schema.json" in result.stderr


def test_schema_prints_json():
    assert "submission.schema.json" in json.loads(evalx("schema").stdout)


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 3)])
@pytest.mark.parametrize("as_json", [False, True])
def test_doctor_fails_only_for_what_stops_judging(
    monkeypatch: pytest.MonkeyPatch, status: str, code: int, as_json: bool
):
    async def examine(*_args: Any) -> list[Check]:
        return [Check("kafka", "ok", "answers"), Check("docker", status, "found this", "do that")]  # type: ignore[arg-type]

    monkeypatch.setattr("evalx.doctor.examine", examine)
    result = evalx("doctor", *(["--json"] if as_json else []))
    assert result.exit_code == code
    assert "do that" in result.stdout
    if as_json:
        assert [check["status"] for check in json.loads(result.stdout)] == ["ok", status]


def test_a_worker_that_cannot_start_is_1(monkeypatch: pytest.MonkeyPatch):
    async def fail(*_args: Any) -> None:
        raise ServiceUnavailableError("Kafka", "here")

    monkeypatch.setattr("evalx.cli.operation._work", fail)
    monkeypatch.setattr("evalx.cli.operation.log_to_stderr", lambda settings: None)
    result = evalx("worker")
    assert result.exit_code == 1
    assert result.stderr == "evalx: Kafka at here cannot be reached\n"


async def test_judging_here_counts_tests(sandbox: FakeSandbox, problem: Path):
    from evalx.languages import Registry
    from evalx.problems import load_tests, make_submission

    registry, settings = Registry.load(), Settings()
    submission = make_submission(
        problem / "main.py", load_tests(problem / "tests"), registry, registry.rules(settings), id="s"
    )
    sandbox._program = lambda stdin: Ran(outcome=Outcome.CPU_LIMIT, exit_code=None, signal=9)
    with Progress("judging", tests=["1", "2"]) as progress:
        result = await judge_locally(settings, submission, progress)
    assert result.verdict is Verdict.TLE
    assert progress._bar.tasks[0].completed == 2

"""Compiles one program and runs its tests in sandboxes; what the runner reports becomes verdicts here.

Expected outputs stay on this side: the program's output is compared when it has left the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from evalx.errors import SandboxFaultError
from evalx.languages import CompileStep, Language
from evalx.messages import CompileReport, Limits, Submission, TestCase, TestResult, text_or_base64
from evalx.metrics import RUNS
from evalx.sandbox.checkers import compare
from evalx.sandbox.container import Collected
from evalx.sandbox.protocol import Bounds, File, Job, Mode, ResultFlag, RunResult
from evalx.sandbox.underway import OnResult, OnTurn
from evalx.stages import mark
from evalx.verdicts import PASSED, Outcome, Verdict, of_outcome

OnTest = Callable[[TestResult], None]

#: Within a lane, tests go before compiles: what has begun is finished first, or compiles that take seconds would keep
#: answers waiting that need milliseconds.
_RUNS, _COMPILES = 0, 1

#: What a compile's limits are called in its output.
_LIMIT_NAMES = {
    Outcome.CPU_LIMIT: "CPU time",
    Outcome.WALL_LIMIT: "wall time",
    Outcome.MEMORY_LIMIT: "memory",
    Outcome.OUTPUT_LIMIT: "output",
}
#: Looking a label up costs more than the counting.
_RUNS_BY_WAY = {way: RUNS.labels(way) for way in ("exec", "fork_server", "warm")}
_MODES = {"exec": Mode.EXEC, "fork_server": Mode.FORK_SERVER, "warm": Mode.WARM_INTERPRETER}


class Sandbox(Protocol):
    """What judging needs to run untrusted code."""

    def toolchain(self, image: str) -> str:
        """The content digest of an image."""

    async def execute(
        self, image: str, job: Job, *, rank: int, on_result: OnResult, on_turn: OnTurn | None = None
    ) -> Collected:
        """Run a job in a container of the image."""


class Artifact(msgspec.Struct, frozen=True):
    """What a compile brought: files for ``/box``, none when it failed. No report for a language without a compiler."""

    report: CompileReport | None
    files: tuple[File, ...]


async def compile_program(
    sandbox: Sandbox, language: Language, code: str, rank: int, on_turn: OnTurn | None = None
) -> Artifact:
    """Compile a source, once; a language without a compiler runs its source as it is.

    ``on_turn`` is called when the compiler may start.

    Raises:
        JudgeFaultError: our fault, never the program's.
    """
    source = File(language.source, code.encode())
    if language.compile is None:
        return Artifact(None, (source,))
    runs: list[RunResult] = []
    job = _compile_job(language.compile, source)

    def on_result(run: RunResult) -> None:
        # In here, so that the container does not serve again, not even for the next attempt.
        _raise_if_ours(run)
        runs.append(run)

    order = _COMPILES + 2 * rank
    collected = await sandbox.execute(language.image, job, rank=order, on_result=on_result, on_turn=on_turn)
    mark("compile")
    return _artifact(runs[0], collected)


async def run_tests(
    sandbox: Sandbox,
    language: Language,
    files: tuple[File, ...],
    submission: Submission,
    rank: int,
    on_test: OnTest | None = None,
) -> tuple[TestResult, ...]:
    """Run all tests of a submission in one container and return their results in order.

    Raises:
        JudgeFaultError: our fault, never the program's.
    """
    results: list[TestResult | None] = [None] * len(submission.tests)

    def on_result(run: RunResult) -> int | None:
        test = submission.tests[run.index]
        _RUNS_BY_WAY[_way(run)].inc()
        result = results[run.index] = _test_result(run, test, language, submission)
        if on_test is not None:
            on_test(result)
        failed = result.verdict not in PASSED and run.outcome is not Outcome.CANCELLED
        return run.index + 1 if submission.stop_on_failure and failed else None

    job = _run_job(language, files, submission)
    await sandbox.execute(language.image, job, rank=_RUNS + 2 * rank, on_result=on_result)
    mark("run")
    finished = [result for result in results if result is not None]
    if len(finished) != len(results):
        raise SandboxFaultError(message="a container left out the result of a test")
    return tuple(skip_after_failure(finished) if submission.stop_on_failure else finished)


def skip_after_failure(tests: Sequence[TestResult]) -> list[TestResult]:
    """The tests after the first failing one count as skipped, also those that had started already."""
    failed = next((i for i, test in enumerate(tests) if test.verdict not in PASSED), len(tests))
    skipped = [TestResult(id=test.id, verdict=Verdict.SK) for test in tests[failed + 1 :]]
    return [*tests[: failed + 1], *skipped]


def _compile_job(step: CompileStep, source: File) -> Job:
    bounds = Bounds(
        cpu_time_ms=step.cpu_time_ms,
        wall_time_ms=step.wall_time_ms,
        memory_bytes=step.memory_bytes,
        output_bytes=step.output_bytes,
        file_bytes=step.artifact_max_bytes,
        processes=step.processes,
    )
    return Job(
        argv=step.argv,
        env=step.env,
        bounds=bounds,
        files=(source,),
        merge_stderr=True,
        collect=step.collect,
        collect_max_bytes=step.artifact_max_bytes,
    )


def _mode(language: Language, runs: int) -> Mode:
    mode = _MODES[language.run.mode]
    # One start and one fork cost more than one start.
    return Mode.EXEC if mode is Mode.FORK_SERVER and runs == 1 else mode


def _way(run: RunResult) -> str:
    if ResultFlag.WARM in run.flags:
        return "warm"
    return "fork_server" if ResultFlag.SERVED in run.flags else "exec"


def _run_job(language: Language, files: tuple[File, ...], submission: Submission) -> Job:
    inputs = tuple(test.stdin.encode() for test in submission.tests)
    return Job(
        argv=language.run_argv(submission.limits.memory_bytes),
        env=language.run_env,
        bounds=_run_bounds(language, submission.limits),
        files=files,
        keep_files=True,
        inputs=inputs,
        parallel=len(inputs),
        mode=_mode(language, len(inputs)),
    )


def _run_bounds(language: Language, limits: Limits) -> Bounds:
    headroom = language.address_space_headroom_bytes
    return Bounds(
        cpu_time_ms=limits.cpu_time_ms,
        wall_time_ms=limits.wall_time_ms,
        memory_bytes=limits.memory_bytes + language.memory_overhead_bytes,
        output_bytes=limits.output_bytes,
        # One byte more than allowed, so that a flood is told from an output that just fits.
        file_bytes=limits.output_bytes + 1,
        processes=limits.processes + language.processes_overhead,
        address_space_bytes=0 if headroom is None else limits.memory_bytes + headroom,
        stack_bytes=language.stack_bytes or limits.memory_bytes,
    )


def _artifact(run: RunResult, collected: Collected) -> Artifact:
    output = run.stdout.decode("utf-8", "replace")
    exit_code = run.exit_code
    if run.outcome in _LIMIT_NAMES:
        output += f"\nevalx: the compiler was stopped, it exceeded its {_LIMIT_NAMES[run.outcome]} limit\n"
        exit_code = None
    elif exit_code == 0 and not collected.files:
        output += f"\nevalx: the compiler left no usable program: {collected.failure or 'no output file'}\n"
        exit_code = None
    report = CompileReport(
        exit_code=exit_code, output=output, cpu_time_ms=run.cpu_time_ms, wall_time_ms=run.wall_time_ms
    )
    return Artifact(report, collected.files if exit_code == 0 else ())


def _test_result(run: RunResult, test: TestCase, language: Language, submission: Submission) -> TestResult:
    _raise_if_ours(run)
    verdict = _verdict(run, test, language, submission)
    stdout_cut = ResultFlag.STDOUT_CUT in run.flags
    stderr_cut = ResultFlag.STDERR_CUT in run.flags
    stdout, stderr, encoding = text_or_base64(run.stdout, run.stderr, stdout_cut=stdout_cut, stderr_cut=stderr_cut)
    return TestResult(
        id=test.id,
        verdict=verdict,
        exit_code=run.exit_code,
        signal=run.signal,
        cpu_time_ms=run.cpu_time_ms,
        wall_time_ms=run.wall_time_ms,
        peak_memory_bytes=run.peak_bytes,
        stdout=stdout,
        stderr=stderr,
        encoding=encoding,
        stdout_truncated=stdout_cut,
        stderr_truncated=stderr_cut,
    )


def _verdict(run: RunResult, test: TestCase, language: Language, submission: Submission) -> Verdict:
    verdict = of_outcome(run.outcome, run.exit_code or 0)
    if verdict is Verdict.RTE and language.ran_out_of_memory(run.stderr):
        return Verdict.MLE
    if verdict is not Verdict.OK or test.expected_output is None:
        return verdict
    return Verdict.AC if compare(submission.checker, test.expected_output, run.stdout) else Verdict.WA


def _raise_if_ours(run: RunResult) -> None:
    if run.outcome is Outcome.INTERNAL:
        raise SandboxFaultError(message=f"the runner could not start a program (errno {run.exit_code})")

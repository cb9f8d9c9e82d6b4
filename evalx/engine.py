"""Judges one submission: caches -> compile once -> run the tests -> verdicts. Knows no Kafka.

The order of one batch:

1. The whole batch may have been judged before: *result cache*.
2. An identical batch may be in progress in this process: *single flight*, its verdicts are shared.
3. The program may have been compiled before: *artifact cache*. Else it is compiled, once, in a sandbox.
4. All tests run in parallel in one container; expected outputs never enter it, the comparison happens here.

What has been judged is stored only when its result is published (``remember``): a cache entry must never be the reason
that a submission counts as delivered.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
import structlog

from evalx.cache import keys
from evalx.errors import JudgeFaultError
from evalx.execution import Artifact, OnTest, Sandbox, compile_program, run_tests, skip_after_failure
from evalx.languages import Language, Registry
from evalx.messages import CompileReport, Result, ReturnOutput, Source, Submission, TestResult
from evalx.metrics import RETRIES
from evalx.verdicts import PASSED, Verdict, overall

log = structlog.get_logger(__name__)

#: Seconds of pause before each further attempt after a fault of ours: a container that died is replaced at once, a
#: daemon that is restarting needs a few seconds. Worst case 3 attempts and 2.5 s of pauses.
RETRY_PAUSES_S = (0.5, 2.0)
#: A test that used more than this part of a limit may fall on the other side of it next time, so it is not cached.
NEAR_LIMIT = 0.8
#: Verdicts that depend on how busy the machine was.
UNREPEATABLE = frozenset({Verdict.TLE, Verdict.MLE, Verdict.JE})


class Cache(Protocol):
    """What the engine needs to remember."""

    async def get(self, level: str, key: str) -> bytes | None:
        """The value of a key, or None."""

    async def put(self, key: str, value: bytes) -> None:
        """Store a value."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one submission, without the circumstances of its delivery.

    ``verdict`` is CE, and ``tests`` empty, when it did not compile; else ``tests`` are in the submission's order.
    """

    verdict: Verdict
    compile: CompileReport | None
    tests: tuple[TestResult, ...]
    toolchain: str
    source: Source
    cache_key: str

    def result(
        self,
        submission: Submission,
        *,
        lane: str,
        worker: str,
        attempt: int = 1,
        queued_ms: float = 0.0,
        judged_ms: float = 0.0,
    ) -> Result:
        """What is published: the judgement with the circumstances of its delivery."""
        return Result(
            id=submission.id,
            status="judged" if self.tests else "compile_error",
            verdict=self.verdict,
            language=submission.language,
            version=submission.version,
            toolchain=self.toolchain,
            compile=self.compile,
            tests=self.reported(submission.return_output),
            source=self.source,
            lane=lane,
            attempt=attempt,
            worker=worker,
            queued_ms=queued_ms,
            judged_ms=judged_ms,
            metadata=submission.metadata,
        )

    def reported(self, return_output: ReturnOutput) -> tuple[TestResult, ...]:
        """The tests with as much of their outputs as the submission asked for."""
        if return_output == "always":
            return self.tests
        return tuple(
            test
            if return_output == "on_failure" and test.verdict not in PASSED
            else msgspec.structs.replace(test, stdout="", stderr="", encoding="utf-8")
            for test in self.tests
        )


class _Outcome(msgspec.Struct, frozen=True):
    """A judgement as it is shared: tests by fingerprint, since ids and order are each submission's own."""

    compile: CompileReport | None
    tests: dict[bytes, TestResult]


_encoder = msgspec.msgpack.Encoder()
_outcome_decoder = msgspec.msgpack.Decoder(_Outcome)
_artifact_decoder = msgspec.msgpack.Decoder(Artifact)


class Engine:
    """Judges submissions, many at a time. ``sandbox`` and ``cache`` are started and closed by the caller."""

    def __init__(self, registry: Registry, sandbox: Sandbox, cache: Cache) -> None:
        self._registry = registry
        self._sandbox = sandbox
        self._cache = cache
        self._in_progress: dict[str, asyncio.Future[_Outcome]] = {}

    async def judge(self, submission: Submission, *, rank: int = 0, on_test: OnTest | None = None) -> Judgement:
        """Judge a normalised submission (``decode_submission`` makes one).

        Args:
            submission: what to judge.
            rank: place of its lane, 0 = highest; decides who gets the next free CPU slot.
            on_test: called with each test's result as soon as it is known; not for answers that are shared.

        Raises:
            JudgeFaultError: our fault, after the retries.
        """
        language = self._registry.resolve(submission.language, submission.version)
        key = keys.result_key(submission, self._sandbox.toolchain(language.image))
        source: Source = "executed"
        outcome: _Outcome | None = None
        if submission.cache == "use":
            source, outcome = await self._known(key)
        if outcome is None:
            source, outcome = "executed", await self._lead(submission, language, key, rank, on_test)
        return self._judgement(submission, language, key, source, outcome)

    async def remember(self, submission: Submission, judgement: Judgement) -> None:
        """Store a published judgement for identical submissions to come."""
        if judgement.source != "executed" or submission.cache == "bypass":
            return
        if _is_conclusive(judgement.compile) and all(_is_repeatable(test, submission) for test in judgement.tests):
            outcome = _Outcome(judgement.compile, _by_fingerprint(submission, judgement.tests))
            await self._cache.put(judgement.cache_key, _encoder.encode(outcome))

    async def _known(self, key: str) -> tuple[Source, _Outcome | None]:
        """Steps 1 and 2: an answer that exists, or that is being worked out."""
        value = await self._cache.get("result", key)
        if value is not None:
            try:
                return "result_cache", _outcome_decoder.decode(value)
            except msgspec.DecodeError:
                log.warning("cache_value_damaged", key=key)
        if (running := self._in_progress.get(key)) is None:
            return "executed", None
        # Not the future itself: who stops waiting must not cancel it for the others.
        await asyncio.wait([running])
        failed = running.cancelled() or running.exception() is not None
        return "joined", None if failed else running.result()

    async def _lead(
        self, submission: Submission, language: Language, key: str, rank: int, on_test: OnTest | None
    ) -> _Outcome:
        """Judge, while identical submissions wait for the outcome."""
        future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        if submission.cache == "use":
            self._in_progress[key] = future
        try:
            outcome = await self._judge_with_retries(submission, language, rank, on_test)
            future.set_result(outcome)
            return outcome
        finally:
            # Whoever joined a leader that failed judges by himself.
            future.cancel()
            if self._in_progress.get(key) is future:
                del self._in_progress[key]

    async def _judge_with_retries(
        self, submission: Submission, language: Language, rank: int, on_test: OnTest | None
    ) -> _Outcome:
        for pause in RETRY_PAUSES_S:
            try:
                return await self._judge_once(submission, language, rank, on_test)
            except JudgeFaultError as fault:
                log.warning(
                    "judging_failed", submission=submission.id, code=fault.code, error=str(fault), retry_in_s=pause
                )
                RETRIES.inc()
                await asyncio.sleep(pause)
        return await self._judge_once(submission, language, rank, on_test)

    async def _judge_once(
        self, submission: Submission, language: Language, rank: int, on_test: OnTest | None
    ) -> _Outcome:
        """Steps 3 and 4."""
        artifact = await self._artifact(submission, language, rank)
        if artifact.report is not None and artifact.report.exit_code != 0:
            return _Outcome(artifact.report, {})
        tests = await run_tests(self._sandbox, language, artifact.files, submission, rank, on_test)
        return _Outcome(artifact.report, _by_fingerprint(submission, tests))

    async def _artifact(self, submission: Submission, language: Language, rank: int) -> Artifact:
        toolchain = self._sandbox.toolchain(language.image)
        key = keys.artifact_key(language, toolchain, submission.code)
        if language.compile is None:
            return await compile_program(self._sandbox, language, submission.code, rank)
        if submission.cache == "use" and (known := await self._known_artifact(key)) is not None:
            return known
        artifact = await compile_program(self._sandbox, language, submission.code, rank)
        if submission.cache != "bypass" and _is_conclusive(artifact.report):
            await self._cache.put(key, _encoder.encode(artifact))
        return artifact

    async def _known_artifact(self, key: str) -> Artifact | None:
        value = await self._cache.get("artifact", key)
        if value is None:
            return None
        try:
            artifact = _artifact_decoder.decode(value)
        except msgspec.DecodeError:
            log.warning("cache_value_damaged", key=key)
            return None
        report = artifact.report and msgspec.structs.replace(artifact.report, cached=True)
        return Artifact(report, artifact.files)

    def _judgement(
        self, submission: Submission, language: Language, key: str, source: Source, outcome: _Outcome
    ) -> Judgement:
        cached = source == "result_cache"
        report = outcome.compile
        if report is not None and cached:
            report = msgspec.structs.replace(report, cached=True)
        tests = [
            msgspec.structs.replace(outcome.tests[keys.fingerprint(test)], id=test.id, cached=cached)
            for test in (submission.tests if outcome.tests else ())
        ]
        if submission.stop_on_failure:
            tests = skip_after_failure(tests)
        return Judgement(
            verdict=overall(test.verdict for test in tests) if tests else Verdict.CE,
            compile=report,
            tests=tuple(tests),
            toolchain=self._sandbox.toolchain(language.image),
            source=source,
            cache_key=key,
        )


def _by_fingerprint(submission: Submission, tests: tuple[TestResult, ...]) -> dict[bytes, TestResult]:
    results: dict[bytes, TestResult] = {}
    for test, result in zip(submission.tests, tests, strict=False):
        # Of equal tests the first one counts: with ``stop_on_failure`` a later one may have been skipped.
        results.setdefault(keys.fingerprint(test), result)
    return results


def _is_conclusive(report: CompileReport | None) -> bool:
    """A compiler that was stopped at a limit may come through next time, when the machine is less busy."""
    return report is None or report.exit_code is not None


def _is_repeatable(test: TestResult, submission: Submission) -> bool:
    limits = submission.limits
    return (
        test.verdict not in UNREPEATABLE
        and test.cpu_time_ms <= NEAR_LIMIT * limits.cpu_time_ms
        and test.wall_time_ms <= NEAR_LIMIT * limits.wall_time_ms
        and test.peak_memory_bytes <= NEAR_LIMIT * limits.memory_bytes
    )

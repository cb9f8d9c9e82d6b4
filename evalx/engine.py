"""Judges one submission: caches -> compile once -> run the tests -> verdicts. Knows no Kafka.

The order of one batch:

1. The whole batch may have been judged before: *result cache*.
2. An identical batch may be in progress, in this process or in another worker: *single flight*, it is awaited.
3. The program may have been compiled before: *artifact cache*. Else it is compiled, once, in a sandbox.
4. All tests run in parallel in one container; expected outputs never enter it, the comparison happens here.

What has been judged is stored only when its result is published (``remember``): a cache entry must never be the reason
that a submission counts as delivered. Who waits for an identical batch gets the outcome then, too.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeAlias

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
#: daemon that is restarting needs a few seconds. Worst case 4 attempts and 10.5 s of pauses.
RETRY_PAUSES_S = (0.5, 2.0, 8.0)
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


class Lead(Protocol):
    """The right to judge a batch on behalf of all workers that were sent the same; others wait until it ends."""

    def settle(self) -> None:
        """It has been judged, and will be ended soon."""

    async def end(self, outcome: bytes | None, *, keep: bool = False) -> None:
        """Give the outcome to those who wait, and store it if it is to be kept."""


class Flights(Protocol):
    """Single flight over all workers."""

    async def join(self, result: str) -> Lead | bytes | None:
        """Take the lead, or wait for the outcome; None when nothing can be known of others."""


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
    lead: Lead | None = None

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


class _Answer(msgspec.Struct, frozen=True):
    """A judgement as it is kept for repeats of one submission: verdicts and outputs as they were published."""

    verdict: Verdict
    compile: CompileReport | None
    tests: tuple[TestResult, ...]
    toolchain: str
    cache_key: str


#: Where an outcome came from, and what must be ended when it is published.
_Flown: TypeAlias = tuple[Source, _Outcome, Lead | None]

_encoder = msgspec.msgpack.Encoder()
_answer_decoder = msgspec.msgpack.Decoder(_Answer)
_outcome_decoder = msgspec.msgpack.Decoder(_Outcome)
_artifact_decoder = msgspec.msgpack.Decoder(Artifact)


class Engine:
    """Judges submissions, many at a time. ``sandbox`` and ``cache`` are started and closed by the caller."""

    def __init__(self, registry: Registry, sandbox: Sandbox, cache: Cache, flights: Flights | None = None) -> None:
        self._registry = registry
        self._sandbox = sandbox
        self._cache = cache
        self._flights = flights
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
        known = await self._known(key) if submission.cache == "use" else None
        source, outcome, lead = known or await self._lead(submission, language, key, rank, on_test)
        return self._judgement(submission, language, key, source, outcome, lead)

    async def remember(self, submission: Submission, judgement: Judgement) -> None:
        """Store a published judgement for identical submissions to come, and end their waiting."""
        if judgement.source != "executed":
            return
        tests_keep = all(_is_repeatable(test, submission) for test in judgement.tests)
        keep = submission.cache != "bypass" and _is_conclusive(judgement.compile) and tests_keep
        await self._end(submission, judgement, keep=keep)

    async def hand_over(self, submission: Submission, judgement: Judgement) -> None:
        """End the waiting of others for a judgement that was not published; it is right all the same."""
        if judgement.lead is not None:
            await self._end(submission, judgement, keep=False)

    @staticmethod
    def pack(judgement: Judgement) -> bytes:
        """A judgement for ``unpack``."""
        return _encoder.encode(
            _Answer(judgement.verdict, judgement.compile, judgement.tests, judgement.toolchain, judgement.cache_key)
        )

    @staticmethod
    def unpack(value: bytes) -> Judgement | None:
        """The judgement that was packed, as one from a cache; None when the value is damaged."""
        try:
            answer = _answer_decoder.decode(value)
        except msgspec.DecodeError:
            log.warning("answer_damaged")
            return None
        return Judgement(
            verdict=answer.verdict,
            compile=answer.compile and msgspec.structs.replace(answer.compile, cached=True),
            tests=tuple(msgspec.structs.replace(test, cached=True) for test in answer.tests),
            toolchain=answer.toolchain,
            source="result_cache",
            cache_key=answer.cache_key,
        )

    async def _end(self, submission: Submission, judgement: Judgement, *, keep: bool) -> None:
        value = _encoder.encode(_Outcome(judgement.compile, _by_fingerprint(submission, judgement.tests)))
        if judgement.lead is not None:
            await judgement.lead.end(value, keep=keep)
        elif keep:
            await self._cache.put(judgement.cache_key, value)

    async def _known(self, key: str) -> _Flown | None:
        """Steps 1 and 2: an answer that exists, or that is being worked out here."""
        value = await self._cache.get("result", key)
        if value is not None and (outcome := _decode_outcome(value, key)) is not None:
            return "result_cache", outcome, None
        if (running := self._in_progress.get(key)) is None:
            return None
        # Not the future itself: who stops waiting must not cancel it for the others.
        await asyncio.wait([running])
        failed = running.cancelled() or running.exception() is not None
        return None if failed else ("joined", running.result(), None)

    async def _lead(
        self, submission: Submission, language: Language, key: str, rank: int, on_test: OnTest | None
    ) -> _Flown:
        """Judge, while identical submissions wait for the outcome."""
        future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        if submission.cache == "use":
            self._in_progress[key] = future
        try:
            flown = await self._fly(submission, language, key, rank, on_test)
            future.set_result(flown[1])
            return flown
        finally:
            # Whoever joined a leader that failed judges by himself.
            future.cancel()
            if self._in_progress.get(key) is future:
                del self._in_progress[key]

    async def _fly(
        self, submission: Submission, language: Language, key: str, rank: int, on_test: OnTest | None
    ) -> _Flown:
        """Step 2 once more, among all workers; then judge."""
        lead: Lead | None = None
        if submission.cache == "use" and self._flights is not None:
            joined = await self._flights.join(key)
            if isinstance(joined, bytes):
                if (outcome := _decode_outcome(joined, key)) is not None:
                    return "joined", outcome, None
            else:
                lead = joined
        try:
            outcome = await self._judge_with_retries(submission, language, rank, on_test)
        except BaseException:
            if lead is not None:
                # Also when we are being cancelled: others would have to wait for the lease to expire.
                await asyncio.shield(lead.end(None))
            raise
        if lead is not None:
            lead.settle()
        return "executed", outcome, lead

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
        self,
        submission: Submission,
        language: Language,
        key: str,
        source: Source,
        outcome: _Outcome,
        lead: Lead | None,
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
            lead=lead,
        )


def _decode_outcome(value: bytes, key: str) -> _Outcome | None:
    try:
        return _outcome_decoder.decode(value)
    except msgspec.DecodeError:
        log.warning("cache_value_damaged", key=key)
        return None


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

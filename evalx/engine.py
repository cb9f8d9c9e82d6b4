"""Judges one submission: caches -> compile once -> run the tests -> verdicts. Knows no Kafka.

The order of one batch:

1. The whole batch may have been judged before: *result cache*.
2. An identical batch may be in progress, in this process or in another worker: *single flight*, it is awaited.
3. The program may have been compiled before: *artifact cache*. Else it is compiled, once, in a sandbox.
4. Some of its tests may have been run before, for another batch: *test cache*. The others run in parallel in one
   container; expected outputs never enter it, the comparison happens here.

What has been judged is stored only when its result is published (``remember``): a cache entry must never be the reason
that a submission counts as delivered. Who waits for an identical batch gets the outcome then, too.

What is kept, and what is not, is in ``evalx.cache.rules``; ``docs/caching.md`` says it to users.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from evalx.cache.keys import BatchKeys, Keys
from evalx.cache.outcomes import Outcome, by_fingerprint, decode_outcome, decode_test, encode
from evalx.cache.rules import Policy, is_conclusive, is_repeatable
from evalx.cache.store import StoreLevel
from evalx.errors import JudgeFaultError
from evalx.execution import OnTest, Sandbox, run_tests, skip_after_failure
from evalx.languages import Language, Registry
from evalx.messages import CompileReport, Result, ReturnOutput, Source, Submission, TestCase, TestResult
from evalx.metrics import RETRIES
from evalx.programs import Programs
from evalx.stages import mark
from evalx.verdicts import PASSED, Verdict, overall

log = structlog.get_logger(__name__)

#: Seconds of pause before each further attempt after a fault of ours: a container that died is replaced at once, a
#: daemon that is restarting needs a few seconds. Worst case 4 attempts and 10.5 s of pauses.
RETRY_PAUSES_S = (0.5, 2.0, 8.0)


class Cache(Protocol):
    """What the engine needs to remember."""

    async def get(self, level: StoreLevel, key: str) -> bytes | None:
        """The value of a key, or None."""

    async def get_many(self, level: StoreLevel, keys: Sequence[str]) -> list[bytes | None]:
        """The values of keys, None for each that is not known."""

    async def put(self, level: StoreLevel, key: str, value: bytes) -> None:
        """Store a value."""

    async def put_many(self, level: StoreLevel, values: Mapping[str, bytes]) -> None:
        """Store values."""

    def count(self, source: Source) -> None:
        """Count a batch by where its answer came from."""


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
    ``is_new``: the whole of it was not in a cache, so it should be stored when it is published.
    """

    verdict: Verdict
    compile: CompileReport | None
    tests: tuple[TestResult, ...]
    toolchain: str
    source: Source
    keys: BatchKeys | None = None
    lead: Lead | None = None
    is_new: bool = False

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


class Case(msgspec.Struct, frozen=True):
    """A submission on its way through the engine, and what it is known under; ``Engine.case`` makes one."""

    submission: Submission
    language: Language
    toolchain: str
    keys: BatchKeys
    rank: int
    on_test: OnTest | None


class _Flown(msgspec.Struct, frozen=True, kw_only=True):
    """Where an outcome came from, what must be ended when it is published, and whether it was put together here."""

    source: Source
    outcome: Outcome
    lead: Lead | None = None
    is_new: bool = False


class Engine:
    """Judges submissions, many at a time. ``sandbox`` and ``cache`` are started and closed by the caller."""

    def __init__(
        self,
        registry: Registry,
        sandbox: Sandbox,
        cache: Cache,
        flights: Flights | None = None,
        *,
        keys: Keys | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._registry = registry
        self._sandbox = sandbox
        self._cache = cache
        self._policy = policy or Policy()
        self._flights = flights if self._policy.single_flight else None
        self._keys = keys or Keys()
        self._in_progress: dict[str, asyncio.Future[Outcome]] = {}
        self._programs = Programs(sandbox, cache)

    async def judge(self, submission: Submission, *, rank: int = 0, on_test: OnTest | None = None) -> Judgement:
        """Judge a normalised submission (``decode_submission`` makes one).

        Args:
            submission: what to judge.
            rank: place of its lane, 0 = highest; decides who gets the next free CPU slot.
            on_test: called with each test's result as soon as it is known; not for answers that are shared.

        Raises:
            JudgeFaultError: our fault, after the retries.
        """
        case = self.case(submission, rank, on_test)
        known = await self._known(case) if submission.cache == "use" else None
        flown = known or await self._lead(case)
        judgement = _judgement(case, flown)
        self._cache.count(judgement.source)
        return judgement

    async def remember(self, submission: Submission, judgement: Judgement) -> None:
        """Store a published judgement for identical submissions to come, and end their waiting."""
        if not judgement.is_new:
            return
        keep = submission.cache != "bypass" and is_conclusive(judgement.compile)
        if keep and self._policy.tests:
            await self._keep_tests(submission, judgement)
        ran = [test for test in judgement.tests if test.verdict is not Verdict.SK]
        keep = keep and self._policy.results and all(is_repeatable(test, submission.limits) for test in ran)
        await self._end(submission, judgement, keep=keep)

    async def hand_over(self, submission: Submission, judgement: Judgement) -> None:
        """End the waiting of others for a judgement that was not published; it is right all the same."""
        if judgement.lead is not None:
            await self._end(submission, judgement, keep=False)

    def pack(self, submission: Submission, judgement: Judgement) -> bytes:
        """A judgement for ``unpack``."""
        return encode(_outcome_of(judgement, judgement.keys or self.case(submission).keys))

    def unpack(self, submission: Submission, value: bytes) -> Judgement | None:
        """The judgement that was packed for this submission, as one from a cache; None when the value is damaged."""
        outcome = decode_outcome(value)
        return None if outcome is None else self.answer(self.case(submission), outcome)

    def answer(self, case: Case, outcome: Outcome) -> Judgement | None:
        """The judgement of a submission by an outcome from a cache; None when that is not one of this submission."""
        if not _answers(outcome, case):
            return None
        return _judgement(case, _Flown(source="result_cache", outcome=outcome))

    @property
    def answers_batches(self) -> bool:
        """Whether batches that were judged before are answered from the cache."""
        return self._policy.results

    def case(self, submission: Submission, rank: int = 0, on_test: OnTest | None = None) -> Case:
        """What a normalised submission is known under."""
        language = self._registry.resolve(submission.language, submission.version)
        toolchain = self._sandbox.toolchain(language.image)
        keys = self._keys.of(submission, language, toolchain)
        return Case(submission, language, toolchain, keys, rank, on_test)

    async def _end(self, submission: Submission, judgement: Judgement, *, keep: bool) -> None:
        keys = judgement.keys or self.case(submission).keys
        value = encode(_outcome_of(judgement, keys))
        if judgement.lead is not None:
            await judgement.lead.end(value, keep=keep)
        elif keep:
            await self._cache.put("result", keys.result, value)

    async def _keep_tests(self, submission: Submission, judgement: Judgement) -> None:
        keys = judgement.keys or self.case(submission).keys
        values = {
            keys.test(fingerprint): encode(test)
            for fingerprint, test in by_fingerprint(keys.tests, judgement.tests).items()
            if not test.cached and is_repeatable(test, submission.limits)
        }
        if values:
            await self._cache.put_many("test", values)

    async def _known(self, case: Case) -> _Flown | None:
        """Steps 1 and 2: an answer that exists, or that is being worked out here."""
        key = case.keys.result
        if self._policy.results:
            outcome = decode_outcome(await self._cache.get("result", key))
            if outcome is not None and _answers(outcome, case):
                return _Flown(source="result_cache", outcome=outcome)
        if (running := self._in_progress.get(key)) is None:
            return None
        # Not the future itself: who stops waiting must not cancel it for the others.
        await asyncio.wait([running])
        failed = running.cancelled() or running.exception() is not None
        return None if failed else _Flown(source="joined", outcome=running.result())

    async def _lead(self, case: Case) -> _Flown:
        """Judge, while identical submissions wait for the outcome."""
        key = case.keys.result
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if case.submission.cache == "use" and self._policy.single_flight:
            self._in_progress[key] = future
        try:
            flown = await self._fly(case)
            future.set_result(flown.outcome)
            return flown
        finally:
            # Whoever joined a leader that failed judges by himself.
            future.cancel()
            if self._in_progress.get(key) is future:
                del self._in_progress[key]

    async def _fly(self, case: Case) -> _Flown:
        """Step 2 once more, among all workers; then judge."""
        lead: Lead | None = None
        if case.submission.cache == "use" and self._flights is not None:
            joined = await self._flights.join(case.keys.result)
            if isinstance(joined, bytes):
                outcome = decode_outcome(joined)
                if outcome is not None and _answers(outcome, case):
                    return _Flown(source="joined", outcome=outcome)
            else:
                lead = joined
        try:
            outcome, ran = await self._judge_with_retries(case)
        except BaseException:
            if lead is not None:
                # Also when we are being cancelled: others would have to wait for the lease to expire.
                await asyncio.shield(lead.end(None))
            raise
        if lead is not None:
            lead.settle()
        return _Flown(source="executed" if ran else "result_cache", outcome=outcome, lead=lead, is_new=True)

    async def _judge_with_retries(self, case: Case) -> tuple[Outcome, bool]:
        for pause in RETRY_PAUSES_S:
            try:
                return await self._judge_once(case)
            except JudgeFaultError as fault:
                name = case.submission.id
                log.warning("judging_failed", submission=name, code=fault.code, error=str(fault), retry_in_s=pause)
                RETRIES.inc()
                await asyncio.sleep(pause)
                mark("acquire")
        return await self._judge_once(case)

    async def _judge_once(self, case: Case) -> tuple[Outcome, bool]:
        """Steps 3 and 4: the outcome, and whether anything had to be run for it."""
        artifact = await self._programs.of(case.submission, case.language, case.keys.artifact, case.rank)
        if artifact.report is not None and artifact.report.exit_code != 0:
            return Outcome(case.toolchain, artifact.report, {}), not artifact.report.cached
        known = await self._known_tests(case)
        _tell(case, known)
        missing = _missing(case, known)
        if missing.tests:
            ran = await run_tests(self._sandbox, case.language, artifact.files, missing, case.rank, case.on_test)
            nothing_known = missing is case.submission
            keys = case.keys if nothing_known else self._keys.of(missing, case.language, case.toolchain)
            known |= by_fingerprint(keys.tests, ran)
        for fingerprint in case.keys.tests:
            # Behind a failure that was known before.
            known.setdefault(fingerprint, TestResult(id="", verdict=Verdict.SK))
        compiled = artifact.report is not None and not artifact.report.cached
        return Outcome(case.toolchain, artifact.report, known), bool(missing.tests) or compiled

    async def _known_tests(self, case: Case) -> dict[bytes, TestResult]:
        """Results of tests of this program that were run before, for whatever batch."""
        if case.submission.cache != "use" or not self._policy.tests:
            return {}
        fingerprints = tuple(dict.fromkeys(case.keys.tests))
        values = await self._cache.get_many("test", [case.keys.test(one) for one in fingerprints])
        tests = {one: decode_test(value) for one, value in zip(fingerprints, values, strict=True)}
        return {one: msgspec.structs.replace(test, cached=True) for one, test in tests.items() if test is not None}


def _missing(case: Case, known: Mapping[bytes, TestResult]) -> Submission:
    """The submission with those of its tests that must be run."""
    if not known:
        return case.submission
    missing: list[TestCase] = []
    for fingerprint, test in zip(case.keys.tests, case.submission.tests, strict=True):
        result = known.get(fingerprint)
        if result is None:
            missing.append(test)
        elif case.submission.stop_on_failure and result.verdict not in PASSED:
            # What comes behind it is skipped, whatever it would have been.
            break
    return msgspec.structs.replace(case.submission, tests=tuple(missing))


def _tell(case: Case, known: Mapping[bytes, TestResult]) -> None:
    """Who wants to know of every test that ends is told of those that ended before."""
    if case.on_test is not None:
        for fingerprint, test in zip(case.keys.tests, case.submission.tests, strict=True):
            if fingerprint in known:
                case.on_test(msgspec.structs.replace(known[fingerprint], id=test.id))


def _answers(outcome: Outcome, case: Case) -> bool:
    """Whether there is an answer to every test: what Redis says is not believed for having been found."""
    if not outcome.tests:
        return outcome.compile is not None and outcome.compile.exit_code != 0
    return all(fingerprint in outcome.tests for fingerprint in case.keys.tests)


def _judgement(case: Case, flown: _Flown) -> Judgement:
    outcome, submission = flown.outcome, case.submission
    cached = flown.source == "result_cache"
    report = outcome.compile
    if report is not None and cached:
        report = msgspec.structs.replace(report, cached=True)
    tests = outcome.tests_for(submission, case.keys.tests, cached=cached)
    if submission.stop_on_failure:
        tests = tuple(skip_after_failure(tests))
    return Judgement(
        verdict=overall(test.verdict for test in tests) if tests else Verdict.CE,
        compile=report,
        tests=tests,
        toolchain=outcome.toolchain,
        source=flown.source,
        keys=case.keys,
        lead=flown.lead,
        is_new=flown.is_new,
    )


def _outcome_of(judgement: Judgement, keys: BatchKeys) -> Outcome:
    return Outcome(judgement.toolchain, judgement.compile, by_fingerprint(keys.tests, judgement.tests))

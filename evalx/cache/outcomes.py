"""A judgement as it is shared and kept: tests by fingerprint, since ids and order are each submission's own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from evalx.cache.values import trimmed
from evalx.messages import CompileReport, Submission, TestResult

log = structlog.get_logger(__name__)


class Outcome(msgspec.Struct, frozen=True):
    """What came of a batch. ``tests`` is empty when it did not compile."""

    toolchain: str
    compile: CompileReport | None
    tests: dict[bytes, TestResult]

    def tests_for(
        self, submission: Submission, fingerprints: Sequence[bytes], *, cached: bool
    ) -> tuple[TestResult, ...]:
        """The tests with the ids and in the order of a submission; raises KeyError when one is missing.

        ``cached`` marks all of them; those that are marked already stay so.
        """
        if not self.tests:
            return ()
        known = self.tests
        return tuple(
            _named(known[fingerprint], test.id, cached)
            for fingerprint, test in zip(fingerprints, submission.tests, strict=True)
        )


_encoder = msgspec.msgpack.Encoder()
_outcome_decoder = msgspec.msgpack.Decoder(Outcome)
_test_decoder = msgspec.msgpack.Decoder(TestResult)


def by_fingerprint(fingerprints: Sequence[bytes], tests: Sequence[TestResult]) -> dict[bytes, TestResult]:
    """Results by what was tested. ``tests`` is empty when nothing could be run."""
    results: dict[bytes, TestResult] = {}
    for fingerprint, result in zip(fingerprints, tests, strict=False):
        # Of equal tests the first one counts: with ``stop_on_failure`` a later one may have been skipped.
        results.setdefault(fingerprint, result)
    return results


def encode(value: Outcome | TestResult) -> bytes:
    """As ``decode_outcome`` and ``decode_test`` read it."""
    return trimmed(_encoder.encode(value))


def decode_outcome(value: bytes | None) -> Outcome | None:
    """The outcome, or None when it is none."""
    try:
        return None if value is None else _outcome_decoder.decode(value)
    except msgspec.DecodeError as error:
        log.warning("cache_value_damaged", error=str(error))
        return None


def decode_test(value: bytes | None) -> TestResult | None:
    """The result of one test, or None when it is none."""
    try:
        return None if value is None else _test_decoder.decode(value)
    except msgspec.DecodeError as error:
        log.warning("cache_value_damaged", error=str(error))
        return None


def _named(test: TestResult, test_id: str, cached: bool) -> TestResult:
    return TestResult(
        id=test_id,
        verdict=test.verdict,
        exit_code=test.exit_code,
        signal=test.signal,
        cpu_time_ms=test.cpu_time_ms,
        wall_time_ms=test.wall_time_ms,
        peak_memory_bytes=test.peak_memory_bytes,
        stdout=test.stdout,
        stderr=test.stderr,
        encoding=test.encoding,
        stdout_truncated=test.stdout_truncated,
        stderr_truncated=test.stderr_truncated,
        cached=cached or test.cached,
    )

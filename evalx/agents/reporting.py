"""What is counted and logged of every published result; cheap, since an answer from the cache costs little else."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, get_args

import structlog

from evalx.agents.records import Record
from evalx.messages import Result
from evalx.messages.result import Status
from evalx.metrics import JUDGED, REPEATS, STAGE_SECONDS, TESTS

log = structlog.get_logger(__name__)

_judged = STAGE_SECONDS.labels("judge")


def expect(lanes: Iterable[str]) -> None:
    """Count nothing yet of these lanes: a rate needs a first value, so what never happened is 0, and not unknown."""
    for lane, status in itertools.product(lanes, get_args(Status)):
        _results(lane, status, "executed")


def report(record: Record, result: Result) -> None:
    """Count a published result, and log that its submission is finished."""
    record.verdict = result.verdict or result.status
    _results(result.lane, result.status, result.source or "none").inc()
    _judged.observe(result.judged_ms / 1000)
    if result.attempt > 1:
        REPEATS.inc()
    for verdict, count in Counter([test.verdict for test in result.tests]).items():
        _tests(result.language, verdict.value).inc(count)
    log.info(
        "submission_finished",
        submission=result.id,
        lane=result.lane,
        status=result.status,
        verdict=result.verdict,
        language=result.language,
        source=result.source,
        attempt=result.attempt,
        queued_ms=round(result.queued_ms, 1),
        judged_ms=round(result.judged_ms, 1),
    )


# Finding a metric by its labels takes longer than counting. There are only so many lanes, languages and verdicts.
@lru_cache(maxsize=1024)
def _results(lane: str, status: str, source: str) -> Any:
    return JUDGED.labels(lane, status, source)


@lru_cache(maxsize=1024)
def _tests(language: str | None, verdict: str) -> Any:
    return TESTS.labels(language, verdict)

"""What is counted of every published result, and kept for the log; cheap, since one from the cache costs little else.

Logged is one line of each record, at its acknowledgement (``timing``), since only then it is known how long it took.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, get_args

from evalx.agents.records import Record
from evalx.errors import JudgeFaultError, RejectedError
from evalx.messages import Result
from evalx.messages.result import Status
from evalx.metrics import JUDGED, JUDGED_SECONDS, REPEATS, TESTS


def expect(lanes: Iterable[str]) -> None:
    """Count nothing yet of these lanes: a rate needs a first value, so what never happened is 0, and not unknown."""
    for lane, status in itertools.product(lanes, get_args(Status)):
        _results(lane, status, "executed")


def report(record: Record, result: Result) -> None:
    """Count a published result, and keep what is logged of it: nothing that is code, or came of it."""
    record.verdict = result.verdict or result.status
    _results(result.lane, result.status, result.source or "none").inc()
    JUDGED_SECONDS.observe(result.judged_ms / 1000)
    if result.attempt > 1:
        REPEATS.inc()
    for verdict, count in Counter([test.verdict for test in result.tests]).items():
        _tests(result.language, verdict.value).inc(count)
    record.facts = {
        "submission": result.id,
        "status": result.status,
        "verdict": result.verdict,
        "error": result.error.code if result.error is not None else None,
        "language": result.language,
        "source": result.source,
        "tests": len(result.tests),
        "attempt": result.attempt,
    }


def report_unnamed(record: Record, failure: RejectedError | JudgeFaultError) -> None:
    """Keep what is logged of a record that has no result, but a dead letter: no id could be read."""
    record.facts = {"submission": None, "status": "dead_letter", "error": failure.code}


# Finding a metric by its labels takes longer than counting. There are only so many lanes, languages and verdicts.
@lru_cache(maxsize=1024)
def _results(lane: str, status: str, source: str) -> Any:
    return JUDGED.labels(lane, status, source)


@lru_cache(maxsize=1024)
def _tests(language: str | None, verdict: str) -> Any:
    return TESTS.labels(language, verdict)

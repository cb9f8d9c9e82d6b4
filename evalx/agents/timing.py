"""What a finished record says about time: histograms of its stages and of the whole, and the one line of it in the log.

All of a record is counted at once, at its end, so the sums of the stages add up to the sum of the whole at any time.
While traces are made, the histograms name one as the example of a bucket (an exemplar), and the log names each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import structlog

from evalx.agents.records import Record
from evalx.agents.slowest import Slowest
from evalx.metrics import STAGE_SECONDS, SUBMISSION_SECONDS
from evalx.stages import STAGES, Stage

log = structlog.get_logger(__name__)

#: Of this process, as its metrics are.
SLOWEST = Slowest()
_stages = {stage: STAGE_SECONDS.labels(stage) for stage in STAGES}
#: How the log calls the time in a stage.
_NAMES = {stage: f"{stage}_ms" for stage in STAGES}


def finished(record: Record) -> None:
    """The record was acknowledged just now."""
    timeline, span = record.timeline, record.span
    timeline.mark("ack")
    spent, total_s = timeline.seconds(), timeline.total_s
    trace = span.trace_id if span is not None else None
    example = {"trace_id": trace} if trace is not None else None
    for stage, seconds in spent.items():
        _stages[stage].observe(seconds, example)
    _submissions(record.lane).observe(total_s, example)
    SLOWEST.offer(record, total_s, spent)
    if span is not None:
        span.end(timeline)
    _log(record, total_s, spent, trace)


def _log(record: Record, total_s: float, spent: Mapping[Stage, float], trace: str | None) -> None:
    times = {_NAMES[stage]: round(seconds * 1000, 2) for stage, seconds in spent.items()}
    traced = {"trace_id": trace} if trace is not None else {}
    log.info(
        "submission_finished",
        **record.facts,
        lane=record.lane,
        partition=record.partition_number,
        offset=record.offset,
        total_ms=round(total_s * 1000, 2),
        **times,
        **traced,
    )


@lru_cache(maxsize=64)
def _submissions(lane: str) -> Any:
    return SUBMISSION_SECONDS.labels(lane)

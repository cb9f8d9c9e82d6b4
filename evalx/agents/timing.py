"""What a finished record says about time: histograms of its stages and of the whole.

All of a record is counted at once, at its end, so the sums of the stages add up to the sum of the whole at any time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from evalx.agents.records import Record
from evalx.agents.slowest import Slowest
from evalx.metrics import STAGE_SECONDS, SUBMISSION_SECONDS
from evalx.stages import STAGES

#: Of this process, as its metrics are.
SLOWEST = Slowest()
_stages = {stage: STAGE_SECONDS.labels(stage) for stage in STAGES}


def finished(record: Record) -> None:
    """The record was acknowledged just now."""
    timeline = record.timeline
    timeline.mark("ack")
    spent, total_s = timeline.seconds(), timeline.total_s
    for stage, seconds in spent.items():
        _stages[stage].observe(seconds)
    _submissions(record.lane).observe(total_s)
    SLOWEST.offer(record, total_s, spent)
    if record.span is not None:
        record.span.end(timeline)


@lru_cache(maxsize=64)
def _submissions(lane: str) -> Any:
    return SUBMISSION_SECONDS.labels(lane)

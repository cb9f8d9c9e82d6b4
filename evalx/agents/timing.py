"""What a finished record says about time: histograms of its stages and of the whole.

All of a record is counted at once, at its end, so the sums of the stages add up to the sum of the whole at any time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from evalx.agents.records import Record
from evalx.metrics import STAGE_SECONDS, SUBMISSION_SECONDS
from evalx.stages import STAGES

_stages = {stage: STAGE_SECONDS.labels(stage) for stage in STAGES}


def finished(record: Record) -> None:
    """The record was acknowledged just now."""
    timeline = record.timeline
    timeline.mark("ack")
    for stage, seconds in timeline.seconds().items():
        _stages[stage].observe(seconds)
    _submissions(record.lane).observe(timeline.total_s)
    if record.span is not None:
        record.span.end(timeline)


@lru_cache(maxsize=64)
def _submissions(lane: str) -> Any:
    return SUBMISSION_SECONDS.labels(lane)

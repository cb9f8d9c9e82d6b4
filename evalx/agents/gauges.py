"""What is looked up now and then for the metrics, instead of being counted with every record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from evalx.agents.flying import Flying
from evalx.agents.lag import PartitionLag, by_lane
from evalx.agents.lanes import Lanes
from evalx.agents.records import Record
from evalx.metrics import GROUP_LAG, LANE_IN_FLIGHT, LANE_OLDEST, LANE_WAITING
from evalx.settings import Settings


class Gauges:
    """The worker's lanes; ``look`` at them from its loop."""

    def __init__(self, lanes: Lanes[Record], flying: Flying) -> None:
        self._lanes = lanes
        self._flying = flying

    def look(self) -> None:
        """Set the metrics to what is there now."""
        now = time.time()
        flying = Counter(record.lane for record in self._flying.records)
        waiting = self._lanes.waiting()
        for lane, records in self._lanes.queued().items():
            LANE_WAITING.labels(lane).set(waiting[lane])
            # Not the first: lanes have the order of arrival, and a partition that came late brings older ones.
            oldest = min((record.timeline.sent_at for record in records), default=now)
            LANE_OLDEST.labels(lane).set(max(0.0, now - oldest))
            LANE_IN_FLIGHT.labels(lane).set(flying[lane])


def tell_lag(settings: Settings, lags: Iterable[PartitionLag]) -> None:
    """What the broker says."""
    for lane in by_lane(settings, list(lags)):
        GROUP_LAG.labels(lane.lane).set(lane.waiting)


def forget_lag() -> None:
    """The broker says nothing: no value is better than an old one."""
    GROUP_LAG.clear()

"""The slowest submissions of the last minutes, with where their time went: what a histogram cannot name.

They are at ``/slowest`` of the health port, for `evalx top`. Not in the metrics, since an id is no label.
"""

from __future__ import annotations

import heapq
import time

import msgspec

from evalx.agents.records import Record
from evalx.stages import Stage

#: How many are kept: what fits on a screen.
KEPT = 10
#: Seconds of a turn. What is told is of this turn and the one before, so of the last 5 to 10 minutes.
TURN_S = 300.0


class Slow(msgspec.Struct, frozen=True):
    """One submission. ``ended_at`` is in seconds since the epoch; ``verdict`` is the status when there is none."""

    submission: str
    lane: str
    language: str | None
    verdict: str
    seconds: float
    stages: dict[Stage, float]
    ended_at: float


class Slowest:
    """Keeps the slowest of those that it is offered."""

    def __init__(self) -> None:
        #: By seconds, the fastest first; a number tells equal ones apart.
        self._turn: list[tuple[float, int, Slow]] = []
        self._last: list[tuple[float, int, Slow]] = []
        self._turned_at = time.monotonic()
        self._offered = 0

    def offer(self, record: Record, seconds: float, stages: dict[Stage, float]) -> None:
        """A record was finished; hardly ever among the slowest, so that is seen first."""
        self._turn_over()
        if len(self._turn) == KEPT and seconds <= self._turn[0][0]:
            return
        submission = record.submission
        if submission is None:
            return
        self._offered += 1
        rounded = {stage: round(spent, 6) for stage, spent in stages.items()}
        slow = Slow(
            submission.id, record.lane, submission.language, record.verdict, round(seconds, 6), rounded, time.time()
        )
        push = heapq.heappush if len(self._turn) < KEPT else heapq.heapreplace
        push(self._turn, (seconds, self._offered, slow))

    def told(self) -> list[Slow]:
        """The slowest first; may be asked from another thread."""
        if time.monotonic() - self._turned_at > 2 * TURN_S:
            return []
        known = [*self._turn, *self._last]
        return [slow for _, _, slow in sorted(known, key=lambda one: one[0], reverse=True)[:KEPT]]

    def _turn_over(self) -> None:
        now = time.monotonic()
        if now - self._turned_at > TURN_S:
            # When nothing came for a whole turn, what is there is too old.
            self._last = self._turn if now - self._turned_at <= 2 * TURN_S else []
            self._turn, self._turned_at = [], now

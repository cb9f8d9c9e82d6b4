"""Whether a worker gets anywhere, judged by the offsets that the *broker* has for its group.

Theory of operation
===================
Faust's idea of its lag is no witness: a commit that failed is not repeated, a fetcher that has died fetches nothing and
complains of nothing. So the committed offset and the end of every partition that this worker holds are read from the
broker by another client, and a partition with something to do whose committed offset does not move is timed:

- it has a record *in flight*: the first unfinished one is in flight too, since a lane is a queue. It may take as long
  as the limits of what is in flight allow (``allowance_s``), and ``GRACE_S``.
- nothing of it is in flight or waiting in the worker: it should have been fetched, or committed. ``GRACE_S``.
- its records wait in a lane behind others, or it is held back until they have gone: that may take any time, as long as
  something is in flight.

What cannot be seen is not held against the worker: the timing starts anew when the broker could not be asked, when the
process was stopped, and when a partition is new.

``GRACE_S`` is the sum of what may lie between two commits besides judging, if all of it happens at once::

      45.0 s   another worker has died: session timeout, and the members' time to give up their partitions
      10.0 s   what is being judged at a revocation gets a moment
      20.0 s   a container is started
      10.5 s   pauses between the attempts after a fault of ours
      16.0 s   a result that the broker did not confirm is sent again
      40.3 s   a commit that the broker did not answer is made again
    = 141.8 s
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from evalx.agents.app import (
    COMMIT_INTERVAL_S,
    REBALANCE_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    REVOKE_WAIT_S,
    SESSION_TIMEOUT_S,
)
from evalx.agents.lag import PartitionLag
from evalx.agents.publisher import REQUEST_TIMEOUT_MS, RESEND_PAUSE_S
from evalx.engine import RETRY_PAUSES_S
from evalx.languages import Registry
from evalx.messages import Submission
from evalx.sandbox.container import JOB_GRACE_S, START_TIMEOUT_S

#: Seconds; see above.
GRACE_S = (
    SESSION_TIMEOUT_S
    + REBALANCE_TIMEOUT_S
    + REVOKE_WAIT_S
    + START_TIMEOUT_S
    + sum(RETRY_PAUSES_S)
    + REQUEST_TIMEOUT_MS / 1000
    + RESEND_PAUSE_S
    + REQUEST_TIMEOUT_S
    + COMMIT_INTERVAL_S
)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker has, by partition number.

    ``pending`` counts records that were taken and are not finished, ``in_flight`` are partitions of those that are
    being judged or published, ``held_back`` those of which no more is fetched for now.
    """

    assigned: frozenset[int] = frozenset()
    pending: Mapping[int, int] = msgspec.field(default_factory=dict)
    in_flight: frozenset[int] = frozenset()
    held_back: frozenset[int] = frozenset()
    allowance_s: float = 0.0


class Stalled(msgspec.Struct, frozen=True):
    """A partition that stands still: since when, and how long it might have."""

    partition: int
    committed: int | None
    seconds: float
    limit_s: float
    in_flight: bool

    def __str__(self) -> str:
        where = "with work in flight" if self.in_flight else "with records that are not fetched or not committed"
        return (
            f"partition {self.partition} stands at offset {self.committed} for {self.seconds:.0f} s {where}, "
            f"at most {self.limit_s:.0f} s are possible"
        )


class StandstillWatch:
    """Compares what the broker says from look to look."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._seen: dict[int, int | None] = {}
        self._since: dict[int, float] = {}

    def forget(self) -> None:
        """Start anew: nobody looked for a while."""
        self._seen.clear()
        self._since.clear()

    def excuse(self, partition: int, now_s: float) -> None:
        """Start anew with one partition."""
        self._since[partition] = now_s

    def look(self, now_s: float, lags: Iterable[PartitionLag], work: Work) -> list[Stalled]:
        """The partitions that stand still for longer than they may; ``now_s`` is of a monotonic clock."""
        stalled = []
        for lag in lags:
            number = lag.partition
            moves = number not in self._since or self._seen.get(number) != lag.committed
            self._seen[number] = lag.committed
            if moves or not lag.waiting or number not in work.assigned or _waits_its_turn(number, work):
                self._since[number] = now_s
                continue
            flying = number in work.in_flight
            limit_s = self._grace_s + (work.allowance_s if flying else 0.0)
            seconds = now_s - self._since[number]
            if seconds > limit_s:
                stalled.append(Stalled(number, lag.committed, seconds, limit_s, flying))
        return stalled


def _waits_its_turn(number: int, work: Work) -> bool:
    queued = bool(work.pending.get(number)) or number in work.held_back
    return bool(work.in_flight) and number not in work.in_flight and queued


def allowance_s(submissions: Iterable[Submission], registry: Registry, slots: int) -> float:
    """Seconds that what is in flight may take, by its own limits.

    The longest alone, or all of them one after another through the slots, whichever is longer; and that twice, since
    one may wait for an identical one that another worker judges, and that worker may die at its very end. A batch that
    fails at its end again and again can take longer; it is begun anew then by another process, and not lost.
    """
    longest = [longest_s(submission, registry) for submission in submissions]
    return 2 * max(max(longest, default=0.0), sum(longest) / slots)


def longest_s(submission: Submission, registry: Registry) -> float:
    """Seconds that one attempt can take: the compile, and the tests one after another, twice with a fork server."""
    language = registry.resolve(submission.language, submission.version)
    compile_ms = language.compile.wall_time_ms if language.compile is not None else 0
    rounds = len(submission.tests) * (2 if language.run.mode == "fork_server" else 1)
    return (compile_ms + rounds * submission.limits.wall_time_ms) / 1000 + 2 * JOB_GRACE_S

"""Where the time of one submission goes, as plain data: the moments at which its stages ended.

Each moment gives the time since the one before to a stage, so the stages of a submission always add up to the time
from its sending to its acknowledgement, whatever way it took. A stage may come several times: a container is acquired
for the compile and again for the tests.

========  ============================================================================================================
queued    from the sender's timestamp until a place, or the look-up in front of the places, takes it
dedupe    claims, look-ups in the caches, waiting for an identical submission, storing a program
acquire   waiting for a CPU slot and a container; also attempts that failed by our fault, and the pauses after them
compile   the compiler's job in the container
run       the tests' job in the container, comparisons included
publish   from the answer to the broker's confirmation
ack       storing the answer, and waiting for records in front of it in the partition
========  ============================================================================================================

The parts that spend the time know nothing of records. They ``mark`` the timeline that the present task *follows*, and
nothing happens when it follows none, as in `evalx judge`.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Literal, TypeAlias, get_args

Stage: TypeAlias = Literal["queued", "dedupe", "acquire", "compile", "run", "publish", "ack"]

STAGES: tuple[Stage, ...] = get_args(Stage)


class Timeline:
    """The moments of one submission.

    ``sent_at`` is in seconds since the epoch. ``sent`` is the same moment, and those in ``marks`` are the ends of the
    stages in order, in seconds of ``time.perf_counter``, which no change of the machine's clock moves.
    """

    __slots__ = ("marks", "sent", "sent_at")

    def __init__(self, sent_at: float | None = None) -> None:
        """``sent_at`` None, or in the future since clocks disagree: it counts as sent now."""
        now = time.time()
        self.sent_at = now if sent_at is None else min(sent_at, now)
        self.sent = time.perf_counter() - (now - self.sent_at)
        self.marks: list[tuple[Stage, float]] = []

    def mark(self, stage: Stage, at: float | None = None) -> None:
        """The time since the last mark, until now or ``at``, was spent in this stage."""
        self.marks.append((stage, time.perf_counter() if at is None else at))

    def seconds(self) -> dict[Stage, float]:
        """The time in each stage that there was."""
        spent: dict[Stage, float] = {}
        since = self.sent
        for stage, at in self.marks:
            spent[stage] = spent.get(stage, 0.0) + at - since
            since = at
        return spent

    @property
    def total_s(self) -> float:
        """Seconds from the sending to the last mark."""
        return self.marks[-1][1] - self.sent if self.marks else 0.0


_followed: ContextVar[Timeline | None] = ContextVar("evalx_timeline", default=None)


def follow(timeline: Timeline | None) -> None:
    """What the present task does from now on is part of this submission."""
    _followed.set(timeline)


def mark(stage: Stage) -> None:
    """The time since the last mark of the submission that this task works on was spent in this stage."""
    if (timeline := _followed.get()) is not None:
        timeline.mark(stage)

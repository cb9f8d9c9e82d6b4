"""What the pool has of one image: idle containers, counts of the others, who waits, and how much of them is used."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from evalx.metrics import POOL_DESTROYED, POOL_RESETS
from evalx.sandbox.breaker import Breaker
from evalx.sandbox.container import Container
from evalx.sandbox.elastic import Usage

#: Seconds until an image whose containers do not come up is tried again: doubled from the first to the second. One that
#: was repaired is in use again half a minute later at most, and one that was not costs 0.1 s of CPU each time.
IMAGE_PAUSE_FIRST_S = 0.5
IMAGE_PAUSE_LONGEST_S = 30.0
#: Failures in a row from which an image counts as crash-looping: one or two may be the machine's.
CRASH_LOOP_FAILURES = 3


class Idle(msgspec.Struct, frozen=True):
    """A container that waits for work, and since when nothing was heard of it."""

    container: Container
    heard_at: float


#: Why a container goes: it died, its reset failed, it has done its jobs, there are too many, another image needs its
#: place, the worker ends.
REASONS = ("dead", "dirty", "retired", "surplus", "evicted", "shutdown")


class Shelf:
    """The containers of one image. Times are seconds of a monotonic clock."""

    def __init__(self, image: str) -> None:
        self.image = image
        #: The one used last is on the right, so that those on the left stay idle.
        self.idle: deque[Idle] = deque()
        self.busy = 0
        #: Reserved and not there yet.
        self.starting = 0
        #: Idle ones that are being asked whether they still answer.
        self.checking: list[Idle] = []
        self.waiting: deque[asyncio.Future[Container]] = deque()
        self.breaker = Breaker(IMAGE_PAUSE_FIRST_S, IMAGE_PAUSE_LONGEST_S)
        self._busy_s = 0.0
        self._counted_at = 0.0
        self._resets = POOL_RESETS.labels(image)
        # What has never happened is 0, and not unknown.
        for reason in REASONS:
            POOL_DESTROYED.labels(image, reason)

    @property
    def live(self) -> int:
        """Containers that are there."""
        return len(self.idle) + self.busy + len(self.checking)

    @property
    def is_crash_looping(self) -> bool:
        """Whether its containers do not come up, again and again."""
        return self.breaker.failures >= CRASH_LOOP_FAILURES

    def pop(self, ids: tuple[int, ...] = ()) -> Container | None:
        """Take an idle container: of those that keep the files of these ids the one used last, else of all of them.

        The one used last has the warmest caches.
        """
        if not self.idle:
            return None
        found = next((one for one in reversed(self.idle) if one.container.holds(ids)), self.idle[-1])
        self.idle.remove(found)
        return found.container

    def next_waiter(self) -> asyncio.Future[Container] | None:
        """Take who has waited longest."""
        while self.waiting:
            if not (future := self.waiting.popleft()).done():
                return future
        return None

    def occupy(self, now: float, change: int = 1) -> None:
        """One more is busy, or one less."""
        self._count(now)
        self.busy += change

    def free(self, now: float, *, clean: bool) -> None:
        """One less is busy; ``clean`` when its job ended in a verified reset."""
        self.occupy(now, -1)
        if clean:
            self._resets.inc()

    def counts(self) -> dict[str, int]:
        """How many containers there are, by state."""
        checking = len(self.checking)
        return {"idle": len(self.idle), "busy": self.busy, "starting": self.starting, "checking": checking}

    def usage(self, now: float, seconds: float) -> Usage:
        """What was used in so many seconds, which end now; begins to count anew."""
        self._count(now)
        used, self._busy_s = self._busy_s, 0.0
        # Containers that came or went meanwhile make this inexact by at most their number.
        return Usage(self.live, min(1.0, used / (seconds * self.live)) if self.live and seconds > 0 else 0.0)

    def _count(self, now: float) -> None:
        self._busy_s += self.busy * (now - self._counted_at)
        self._counted_at = now

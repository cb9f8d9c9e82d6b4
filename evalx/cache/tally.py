"""Counts what the caches know and what they do not, in Prometheus for this worker and in Redis for all of them.

In Redis ``cache:hits`` and ``cache:misses`` count batches: those that were answered without being judged, and the
others. ``cache:levels`` has the look-ups of each level, such as ``test:hit``. They are sent once in a while, never for
one batch; what a worker has not sent when it dies is missing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Literal, TypeAlias

from evalx.cache.link import Link
from evalx.metrics import CACHE_HITS, CACHE_LOOKUPS

Level: TypeAlias = Literal["result", "flight", "test", "artifact"]
Place: TypeAlias = Literal["memory", "disk", "redis", "worker"]

HITS, MISSES, LEVELS = "cache:hits", "cache:misses", "cache:levels"
#: Seconds between two reports: an operator looks more rarely, and a call in so many seconds is none.
REPORT_S = 2.0
#: Seconds after the last report that the counts are kept, for nothing in Redis is there for ever.
COUNTS_TTL_S = 30 * 24 * 3600


class Tally:
    """The counts of one worker."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._unsent: Counter[str] = Counter()
        self._lookups = {key: CACHE_LOOKUPS.labels(*key) for key in _outcomes()}
        self._places: dict[tuple[str, str], Any] = {}
        self._due: asyncio.TimerHandle | None = None
        self._report: asyncio.Task[None] | None = None

    def count(self, level: Level, *, hits: int = 0, misses: int = 0, place: Place | None = None) -> None:
        """Count look-ups; ``place`` is where the hits were found."""
        if hits:
            self._lookups[level, "hit"].inc(hits)
            self._unsent[f"{level}:hit"] += hits
            if place is not None:
                self._place(level, place).inc(hits)
        if misses:
            self._lookups[level, "miss"].inc(misses)
            self._unsent[f"{level}:miss"] += misses
        self._report_later()

    def count_batch(self, *, known: bool) -> None:
        """Count a batch that was answered: ``known`` when nothing had to be run for it."""
        self._unsent[HITS if known else MISSES] += 1
        self._report_later()

    async def send(self) -> None:
        """Send what was not sent yet."""
        if self._link.client is None or not self._unsent:
            return
        counts, self._unsent = self._unsent, Counter()
        pipe = self._link.client.pipeline(transaction=False)
        for name, count in counts.items():
            if name in (HITS, MISSES):
                pipe.incrby(name, count)
            else:
                pipe.hincrby(LEVELS, name, count)
        for name in (HITS, MISSES, LEVELS):
            pipe.expire(name, COUNTS_TTL_S)
        if await self._link.ask(pipe.execute()) is None:
            # Perhaps only the answer is missing; some counted twice are better than none.
            self._unsent.update(counts)

    async def close(self) -> None:
        """Send what is left."""
        if self._due is not None:
            self._due.cancel()
        if self._report is not None:
            await asyncio.wait([self._report])
        await self.send()

    def _report_later(self) -> None:
        if self._due is None and self._link.client is not None:
            self._due = asyncio.get_running_loop().call_later(REPORT_S, self._begin_report)

    def _begin_report(self) -> None:
        self._due = None
        self._report = asyncio.create_task(self.send())

    def _place(self, level: str, place: str) -> Any:
        if (level, place) not in self._places:
            self._places[level, place] = CACHE_HITS.labels(level, place)
        return self._places[level, place]


def _outcomes() -> list[tuple[str, str]]:
    return [(level, outcome) for level in ("result", "flight", "test", "artifact") for outcome in ("hit", "miss")]

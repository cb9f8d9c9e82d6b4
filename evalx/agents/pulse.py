"""Notices that this process was stopped for so long that its partitions may belong to others by now.

A process that is stopped (SIGSTOP, a debugger, a frozen virtual machine) and goes on does not know that time has
passed. Its partitions were given away, and the consumer learns it from the answer to its next heartbeat. Until then it
must not answer anything.

Worst case after a stop: ``SETTLE_S`` in which nothing is published; the results of that time are not lost.
"""

from __future__ import annotations

import asyncio

import structlog

from evalx.agents.app import HEARTBEAT_INTERVAL_S, SESSION_TIMEOUT_S
from evalx.cache.holding import clock

log = structlog.get_logger(__name__)

#: Seconds between beats.
BEAT_S = 1.0
#: Seconds without a beat after which the session may have ended: the last heartbeat may have been sent one interval
#: before the stop, and so may our last beat.
LIMIT_S = SESSION_TIMEOUT_S - HEARTBEAT_INTERVAL_S - BEAT_S
#: Seconds for the consumer to hear of it (measured: 6.6): it finds its connections dead, looks for the coordinator,
#: sends a heartbeat or commits, is refused, and then the partitions are revoked. If it takes longer, what is published
#: is still what has been published before, by the word of Redis.
SETTLE_S = 3 * HEARTBEAT_INTERVAL_S + 1.0


class Pulse:
    """Beats while the process runs. Without ``start`` it sees no stop."""

    def __init__(self) -> None:
        self._beat_at: float | None = None
        self._settled_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to beat."""
        self._beat()
        self._task = asyncio.create_task(self._run())

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What feels the pulse; it ends only when it is stopped."""
        return self._task

    async def stop(self) -> None:
        """Beat no more."""
        self._beat_at = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def settled(self) -> None:
        """Return when it is known again what belongs to this process; at once unless it was stopped a moment ago."""
        if self._beat_at is not None:
            # Whoever asks may be the first to run after the stop.
            self._beat()
        if (left := self._settled_at - clock()) > 0:
            await asyncio.sleep(left)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self._beat()

    def _beat(self) -> None:
        now = clock()
        if self._beat_at is not None and now - self._beat_at > LIMIT_S:
            self._settled_at = now + SETTLE_S
            log.warning("process_was_stopped", seconds=round(now - self._beat_at, 1))
        self._beat_at = now

"""CPU slots: at most as many runs at once as the worker has cores, so that reported CPU times are true."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator


class CpuSlots:
    """A counting semaphore that serves the highest lane first and gives several slots to whoever comes alone."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def take(self, want: int, rank: int) -> AsyncIterator[int]:
        """Hold 1 to ``want`` slots and yield how many; waits only while there is none.

        Args:
            want: how many could be used.
            rank: 0 = first to be served; equal ranks are served in order of arrival.
        """
        if self._free == 0 or self._waiting:
            await self._queue(rank)
        granted = 1 + self._take_spare(want - 1)
        try:
            yield granted
        finally:
            self._free += granted
            self._wake()

    async def _queue(self, rank: int) -> None:
        """Wait for one slot; it is taken on our behalf before we wake, so that nobody overtakes."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._free += 1
                self._wake()
            raise
        self._free += 1

    def _take_spare(self, more: int) -> int:
        self._free -= 1
        spare = 0 if self._waiting else max(0, min(more, self._free))
        self._free -= spare
        return spare

    def _wake(self) -> None:
        while self._free > 0 and self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                self._free -= 1
                future.set_result(None)

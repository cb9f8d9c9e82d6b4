"""CPU slots: at most as many runs at once as the worker has cores, so that reported CPU times are true.

Slots have numbers: a container that holds slot n works on the n-th CPU. The runner, its fork server and a new test then
share a CPU's cache, and waking each other needs no interrupt of another CPU, which costs a third of a short test.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator

from evalx.metrics import CPU_SLOT_BUSY_SECONDS, CPU_SLOTS, CPU_SLOTS_BUSY, CPU_SLOTS_WAITING


class CpuSlots:
    """A counting semaphore that serves the highest lane first and gives several slots to whoever comes alone."""

    def __init__(self, count: int) -> None:
        self._free = deque(range(count))
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[int]]] = []
        # Asked for when somebody looks, from another thread; lengths can be read at any time.
        CPU_SLOTS.set(count)
        CPU_SLOTS_BUSY.set_function(lambda: count - len(self._free))
        CPU_SLOTS_WAITING.set_function(lambda: len(self._waiting))

    @contextlib.asynccontextmanager
    async def take(self, want: int, rank: int) -> AsyncIterator[list[int]]:
        """Hold 1 to ``want`` slots and yield their numbers, from 0; waits only while there is none.

        Args:
            want: how many could be used.
            rank: 0 = first to be served; equal ranks are served in order of arrival.
        """
        at_once = self._free and not self._waiting
        granted = [self._free.popleft() if at_once else await self._queue(rank)]
        granted += self._take_spare(want - 1)
        since = time.monotonic()
        try:
            yield granted
        finally:
            CPU_SLOT_BUSY_SECONDS.inc(len(granted) * (time.monotonic() - since))
            self._give_back(granted)

    async def _queue(self, rank: int) -> int:
        """Wait for one slot; it is taken on our behalf before we wake, so that nobody overtakes."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give_back([future.result()])
            raise

    def _take_spare(self, more: int) -> list[int]:
        spare = 0 if self._waiting else max(0, min(more, len(self._free)))
        return [self._free.popleft() for _ in range(spare)]

    def _give_back(self, slots: list[int]) -> None:
        self._free.extend(slots)
        while self._free and self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(self._free.popleft())

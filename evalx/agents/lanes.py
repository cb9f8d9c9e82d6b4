"""The in-process scheduler: which submission is judged next, and when the broker is asked for no more.

Theory of operation
===================
Partition priority does nothing by itself: Faust deals partitions round robin into one first-in-first-out buffer. So
intake empties that buffer at once into these lanes, and every free place in the worker takes from the highest lane
that has work. Every lane that has work gets at least one grant in ten, so that nothing starves while a higher lane is
never empty. When all places are taken by a lower lane, a higher one would still wait for one of them, so each lane but
the lowest has places besides that serve no lane below it (``reserved``).

What waits here is bounded by count and by bytes, per lane, so that a flood of low submissions never keeps high ones
out. A partition whose lane is over its high-water mark is *held*: the fetcher reads no more of it, and records that
are already fetched still arrive. It is *released* at the low-water mark. Holding must go through
``on_buffer_full``/``on_buffer_drop``: ``pause_partitions`` drops fetched records and books them as processed
(measured: 1,880 of 4,000 lost, lag 0).

An item may be *admitted* first: it counts, but no place gets it yet, while somebody finds out whether it has to be
judged at all (see ``front``). Then it becomes *ready*, or leaves.

Low water is half of high water: what is left is worked on until more has come. That is one fetch, some 20 ms, since a
release is noticed at once; Faust by itself would only see it after its poll of up to one second (see ``app``).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

#: Of this many grants in a row every lane that has work gets at least one.
GRANTS_PER_TURN = 10


class Queued(Protocol):
    """What a lane needs to know of an item."""

    @property
    def partition(self) -> Hashable:
        """The partition that the record came from."""

    @property
    def size(self) -> int:
        """Bytes that the item keeps in memory."""


ItemT = TypeVar("ItemT", bound=Queued)


class FlowControl(Protocol):
    """The consumer's side of back pressure."""

    def hold(self, partition: Hashable) -> None:
        """Fetch no more records of the partition."""

    def release(self, partition: Hashable) -> None:
        """Fetch records of the partition again."""


class Lane(Generic[ItemT]):
    """One priority: a queue, its size and the partitions that feed it and are held back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.items: deque[ItemT] = deque()
        self.admitted: set[ItemT] = set()
        self.bytes = 0
        self.passed_over = 0
        self.held: set[Hashable] = set()

    @property
    def count(self) -> int:
        """How many items it has, admitted ones included."""
        return len(self.items) + len(self.admitted)

    def append(self, item: ItemT) -> None:
        """Put an item at the end."""
        self.items.append(item)
        self.bytes += item.size

    def admit(self, item: ItemT) -> None:
        """Count an item that is not at the end yet."""
        self.admitted.add(item)
        self.bytes += item.size

    def dismiss(self, item: ItemT) -> bool:
        """Count an admitted item no more; False when it is none, or none any more."""
        if item not in self.admitted:
            return False
        self.admitted.discard(item)
        self.bytes -= item.size
        return True

    def popleft(self) -> ItemT:
        """Take the oldest item."""
        item = self.items.popleft()
        self.bytes -= item.size
        return item

    def drop(self, partitions: set[Hashable]) -> list[ItemT]:
        """Remove and return the items of these partitions."""
        dropped = [item for item in (*self.items, *self.admitted) if item.partition in partitions]
        self.admitted -= set(dropped)
        self.items = deque(item for item in self.items if item.partition not in partitions)
        self.bytes -= sum(item.size for item in dropped)
        self.held -= partitions
        return dropped


class Lanes(Generic[ItemT]):
    """Bounded queues by priority, highest first; without ``priorities`` all that have work take turns."""

    def __init__(
        self,
        names: Iterable[str],
        lane_of: Callable[[Hashable], str],
        flow: FlowControl,
        *,
        max_count: int,
        max_bytes: int,
        priorities: bool = True,
    ) -> None:
        self._priorities = priorities
        self._lanes = {name: Lane[ItemT](name) for name in names}
        self._lane_of = lane_of
        self._flow = flow
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._not_empty = asyncio.Event()

    def put(self, item: ItemT, /) -> None:
        """Queue an item; never blocks, so that intake stays responsive while a lane is over its mark."""
        lane = self._lane(item)
        self._append(lane, item)
        self._hold_if_full(lane, item)

    def admit(self, item: ItemT) -> None:
        """Count an item that may not have to wait for a place; ``ready`` or ``leave`` follows."""
        lane = self._lane(item)
        lane.admit(item)
        self._hold_if_full(lane, item)

    def ready(self, item: ItemT) -> None:
        """An admitted item waits for a place now; nothing happens when it was dropped."""
        lane = self._lane(item)
        if lane.dismiss(item):
            self._append(lane, item)

    def leave(self, item: ItemT) -> bool:
        """An admitted item needs no place; False when it was dropped."""
        lane = self._lane(item)
        if not lane.dismiss(item):
            return False
        if lane.held and self._is_drained(lane):
            self._release(lane)
        return True

    async def take(self, lowest: str | None = None) -> ItemT:
        """Wait for the next item by priority, of the lanes down to the lowest one named."""
        while (lane := self._next_lane(lowest)) is None:
            self._not_empty.clear()
            await self._not_empty.wait()
        item = lane.popleft()
        if lane.held and self._is_drained(lane):
            self._release(lane)
        return item

    def drop(self, partitions: Iterable[Hashable]) -> list[ItemT]:
        """Forget what is queued of revoked partitions; they are not released, they belong to somebody else now."""
        revoked = set(partitions)
        dropped = [item for lane in self._lanes.values() for item in lane.drop(revoked)]
        for lane in self._lanes.values():
            # What stays may have nothing queued any more, and then no grant would come to release it.
            if lane.held and self._is_drained(lane):
                self._release(lane)
        return dropped

    def waiting(self) -> dict[str, int]:
        """How many items wait in each lane."""
        return {name: lane.count for name, lane in self._lanes.items()}

    def queued(self) -> dict[str, Iterator[ItemT]]:
        """What waits in each lane; to be read before the lanes change."""
        return {name: itertools.chain(lane.items, lane.admitted) for name, lane in self._lanes.items()}

    def held_back(self) -> set[Hashable]:
        """The partitions of which no more is fetched for now."""
        return {partition for lane in self._lanes.values() for partition in lane.held}

    def reserved(self, places: int) -> list[str]:
        """For each place that serves higher lanes only the lowest of them: so many for each lane but the lowest."""
        return [name for name in list(self._lanes)[:-1] for _ in range(places)] if self._priorities else []

    def rank(self, name: str) -> int:
        """The place of a lane in the order of priority, 0 = highest."""
        return list(self._lanes).index(name) if self._priorities else 0

    def _lane(self, item: ItemT) -> Lane[ItemT]:
        return self._lanes[self._lane_of(item.partition)]

    def _append(self, lane: Lane[ItemT], item: ItemT) -> None:
        if not lane.items:
            lane.passed_over = 0
        lane.append(item)
        self._not_empty.set()

    def _hold_if_full(self, lane: Lane[ItemT], item: ItemT) -> None:
        if self._is_full(lane):
            # Said again for every item over the mark: Faust's own buffer pressure may have released the partition.
            lane.held.add(item.partition)
            self._flow.hold(item.partition)

    def _next_lane(self, lowest: str | None) -> Lane[ItemT] | None:
        busy = [lane for lane in self._lanes.values() if lane.items]
        if lowest is not None:
            # Who is passed over for a place that is not his has lost no turn.
            return next((lane for lane in busy if self.rank(lane.name) <= self.rank(lowest)), None)
        if not busy:
            return None
        # When several are due at once they take turns: the first begins that much earlier, so that the last is in time.
        most = GRANTS_PER_TURN if self._priorities else 1
        starving = [lane for lane in busy if lane.passed_over >= most - max(1, len(busy) - 1)]
        chosen = max(starving, key=lambda lane: lane.passed_over) if starving else busy[0]
        for lane in busy:
            lane.passed_over += 1
        chosen.passed_over = 0
        return chosen

    def _is_full(self, lane: Lane[ItemT]) -> bool:
        return lane.count >= self._max_count or lane.bytes >= self._max_bytes

    def _is_drained(self, lane: Lane[ItemT]) -> bool:
        return lane.count <= self._max_count // 2 and lane.bytes <= self._max_bytes // 2

    def _release(self, lane: Lane[ItemT]) -> None:
        for partition in lane.held:
            self._flow.release(partition)
        lane.held.clear()

"""CPU slots: at most as many runs at once as the worker has cores, so that reported CPU times are true.

Theory of operation
===================
*Order.* The highest rank is served first, equal ones in order of arrival. Who was overtaken ``MOST_OVERTAKEN`` times is
next, whatever his rank, so that nobody starves below a lane that is never empty.

*Lending.* A batch of a low lane may have twenty tests of a second, and one of the high lane is not to wait for all of
them. So who holds slots may offer to give them up between two tests (``Grant.offer``). When somebody of a higher lane
finds none free, the lowest of those who offer is *asked* to go on with one slot less; he *keeps* the others as soon as
his tests allow it, and *regains* one when it is his turn again, where he is the oldest of his rank. Who was overtaken
too often is not asked again.

*Numbers.* Slots have numbers: a container that holds slot n works on the n-th CPU. The runner, its fork server and a
new test then share a CPU's cache, and waking each other needs no interrupt of another CPU, which costs a third of a
short test. Who regains a slot with another number stays where he was: his tests, which may run on any CPU, move.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from evalx.metrics import CPU_SLOT_BUSY_SECONDS, CPU_SLOTS, CPU_SLOTS_BUSY, CPU_SLOTS_LENT, CPU_SLOTS_WAITING

#: Who was passed by so often is served next. As in the lanes: one grant in ten at least.
MOST_OVERTAKEN = 9
#: By how much a rank must be higher to be lent a slot: compiles and tests of one lane are one rank apart, and between
#: them nothing would be won.
LANE_RANKS = 2


class _Waiter:
    """Somebody who waits for one slot."""

    __slots__ = ("borrows", "future", "order", "overtaken", "rank")

    def __init__(self, rank: int, order: int, *, borrows: bool) -> None:
        self.rank = rank
        self.order = order
        self.borrows = borrows
        self.overtaken = 0
        self.future: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class Grant:
    """Slots that somebody holds; ``CpuSlots.take`` makes one."""

    def __init__(self, slots: CpuSlots, waiter: _Waiter, numbers: list[int]) -> None:
        self._slots = slots
        self._waiter = waiter
        self._since = time.monotonic()
        self._ask: Callable[[int], None] | None = None
        #: Those that are held, counted from 0; none while all are lent.
        self.numbers = numbers
        #: How many stay when all have been given up that were asked for.
        self.keeps = len(numbers)

    @property
    def rank(self) -> int:
        """0 = first to be served."""
        return self._waiter.rank

    @property
    def is_lendable(self) -> bool:
        """Whether its holder can be asked for one more."""
        return self._ask is not None and self.keeps > 0 and self._waiter.overtaken < MOST_OVERTAKEN

    def offer(self, ask: Callable[[int], None]) -> None:
        """From now on ``ask`` is called with how many slots may be kept; ``keep`` answers when it has come to that."""
        self._ask = ask
        self._slots.borrow()

    def ask(self) -> None:
        """Ask for one."""
        assert self._ask is not None, "is_lendable says whether one may ask"
        self.keeps -= 1
        self._ask(self.keeps)

    def keep(self, count: int) -> None:
        """No more than so many are needed; the others go to those who wait."""
        if given := self.numbers[max(count, self.keeps) :]:
            CPU_SLOTS_LENT.inc(len(given))
            self._release(given)
            self._slots.give_back(given)

    async def regain(self) -> None:
        """Wait for one slot again, as who has waited since the first one was asked for."""
        self._since = time.monotonic()
        number = await self._slots.queue_again(self._waiter)
        if self._ask is None:
            self._slots.give_back([number])
            return
        self.numbers, self.keeps, self._since = [number], 1, time.monotonic()
        self._slots.borrow()

    def close(self) -> None:
        """Give back what is held."""
        self._ask = None
        given, self.keeps = self.numbers, 0
        self._release(given)
        self._slots.give_back(given)

    def _release(self, given: list[int]) -> None:
        CPU_SLOT_BUSY_SECONDS.inc(len(given) * (time.monotonic() - self._since))
        self.numbers = self.numbers[: len(self.numbers) - len(given)]


class CpuSlots:
    """A counting semaphore that serves the highest lane first and gives several slots to whoever comes alone."""

    def __init__(self, count: int) -> None:
        self._free = deque(range(count))
        self._order = itertools.count()
        self._waiting: list[_Waiter] = []
        self._grants: list[Grant] = []
        # Asked for when somebody looks, from another thread; lengths can be read at any time.
        CPU_SLOTS.set(count)
        CPU_SLOTS_BUSY.set_function(lambda: count - len(self._free))
        CPU_SLOTS_WAITING.set_function(lambda: len(self._waiting))

    @contextlib.asynccontextmanager
    async def take(self, want: int, rank: int, *, borrows: bool = False) -> AsyncIterator[Grant]:
        """Hold 1 to ``want`` slots; waits only while there is none.

        Args:
            want: how many could be used.
            rank: 0 = first to be served; equal ranks are served in order of arrival.
            borrows: whether those of lower lanes are to be asked for one if there is none.
        """
        waiter = _Waiter(rank, next(self._order), borrows=borrows)
        at_once = self._free and not self._waiting
        numbers = [self._free.popleft() if at_once else await self._wait(waiter)]
        grant = Grant(self, waiter, numbers + self._take_spare(want - 1))
        self._grants.append(grant)
        try:
            yield grant
        finally:
            self._grants.remove(grant)
            grant.close()

    async def queue_again(self, before: _Waiter) -> int:
        """Wait for one slot once more, in the place that was had before."""
        waiter = _Waiter(before.rank, before.order, borrows=False)
        waiter.overtaken = before.overtaken
        try:
            return await self._wait(waiter)
        finally:
            before.overtaken = waiter.overtaken

    def give_back(self, slots: list[int]) -> None:
        """They are free, or somebody's who waits."""
        self._free.extend(slots)
        self._serve()

    def _serve(self) -> None:
        while self._free and (waiter := self._next()) is not None:
            waiter.future.set_result(self._free.popleft())

    def borrow(self) -> None:
        """Ask those of lower lanes, one for each who waits and borrows and for whom nobody has been asked yet."""
        asked = sum(len(grant.numbers) - grant.keeps for grant in self._grants)
        for waiter in sorted((one for one in self._waiting if one.borrows), key=_by_rank)[asked:]:
            able = [one for one in self._grants if one.is_lendable and one.rank - waiter.rank >= LANE_RANKS]
            if able:
                max(able, key=lambda grant: grant.rank).ask()

    async def _wait(self, waiter: _Waiter) -> int:
        """Wait for one slot; it is taken on our behalf before we wake, so that nobody overtakes."""
        self._waiting.append(waiter)
        # One may be free: that of who gave it up for a borrower, who has got another one meanwhile, and wants it again.
        self._serve()
        self.borrow()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                self.give_back([waiter.future.result()])
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    def _take_spare(self, more: int) -> list[int]:
        spare = 0 if self._waiting else max(0, min(more, len(self._free)))
        return [self._free.popleft() for _ in range(spare)]

    def _next(self) -> _Waiter | None:
        """Take who is served next off the queue."""
        self._waiting = [one for one in self._waiting if not one.future.done()]
        if not self._waiting:
            return None
        due = [one for one in self._waiting if one.overtaken >= MOST_OVERTAKEN]
        chosen = min(due, key=lambda one: one.order) if due else min(self._waiting, key=_by_rank)
        self._waiting.remove(chosen)
        for one in self._waiting:
            one.overtaken += one.order < chosen.order
        return chosen


def _by_rank(waiter: _Waiter) -> tuple[int, int]:
    return waiter.rank, waiter.order

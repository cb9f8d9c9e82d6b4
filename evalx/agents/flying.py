"""Which records are in flight in this worker, and what a shutdown and a rebalance have to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from evalx.agents.records import Record
from evalx.metrics import IN_FLIGHT


class Flying:
    """Records that are being judged or published."""

    def __init__(self) -> None:
        self._records: set[Record] = set()
        #: Those of them that wait for others' answers; nothing is lost by giving them up.
        self._waiting: set[Record] = set()
        self._settling: set[asyncio.Task[Any]] = set()
        self._settled = asyncio.Event()
        self._settled.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_stopping = False

    @property
    def records(self) -> frozenset[Record]:
        """Those records."""
        return frozenset(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def enter(self, records: Iterable[Record]) -> None:
        """They are being worked on from now on."""
        self._records.update(records)
        self._note()

    def leave(self, records: Iterable[Record]) -> None:
        """They are not any more."""
        self._records.difference_update(records)
        self._waiting.difference_update(records)
        self._note()

    def wait_for_others(self, record: Record) -> None:
        """What comes of it is another's to say."""
        self._waiting.add(record)
        self._note()

    def go_on(self, record: Record) -> None:
        """It is ours to work on again."""
        self._waiting.discard(record)
        self._note()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is being judged; False when the time was not enough.

        A record that waits for what others make of the same submission does not count.
        """
        return await _within(timeout_s, self._idle)

    def begin_settling(self) -> None:
        """The present task has an answer that is about to be published and acknowledged."""
        if (task := asyncio.current_task()) is not None:
            self._settling.add(task)
            self._settled.clear()

    def end_settling(self) -> None:
        """It has none any more."""
        if (task := asyncio.current_task()) is not None:
            self._settling.discard(task)
        if not self._settling:
            self._settled.set()

    def is_settling(self, task: asyncio.Task[None]) -> bool:
        """Whether a task has an answer that is about to be published and acknowledged.

        It must not be cancelled then: a result that is published and not acknowledged is published again by another.
        """
        return task in self._settling

    async def wait_settled(self, timeout_s: float) -> bool:
        """Wait until nothing is between its answer and its acknowledgement; False when the time was not enough."""
        return await _within(timeout_s, self._settled)

    def _note(self) -> None:
        IN_FLIGHT.set(len(self._records))
        if self._records <= self._waiting:
            self._idle.set()
        else:
            self._idle.clear()


async def _within(timeout_s: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True

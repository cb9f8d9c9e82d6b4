"""Many submissions, in bounded memory.

Theory of operation
===================
A *feeder* takes submissions from the source, one for each of ``at_most`` slots that is free, and starts a task for
each. A slot is free again when its result has been taken by the caller: what is under way, and what has come and was
not taken, is never more than ``at_most``. Until the broker has confirmed them submissions are held in full; of those
no more than ``UNCONFIRMED_BYTES`` are there at one time, and one, if that is larger. After that, of each only its id.

Of the source's ids the last ones are remembered, so that a repeated one has one result; with other content under the
same id it is rejected.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeAlias

from evalx.client.prepared import Prepared
from evalx.client.seen import SeenIds
from evalx.errors import ClientStateError, RejectedError
from evalx.messages import Result, Submission, rejected_result

#: Submissions that are under way at once: some seconds' work for a few workers.
AT_MOST = 1000
#: Bytes of submissions that are on their way to the broker.
UNCONFIRMED_BYTES = 64 << 20
#: In `rejected` results of submissions that were not sent: who found it out.
HERE = "client"

Judge: TypeAlias = Callable[[Prepared, Callable[[], None]], Coroutine[Any, Any, Result]]
Source: TypeAlias = Iterable[Submission] | AsyncIterable[Submission]


class Bulk:
    """One iteration over the results of a source of submissions."""

    def __init__(
        self, source: Source, prepare: Callable[[Submission], Prepared], judge: Judge, lane: str, at_most: int
    ) -> None:
        self._source = source
        self._prepare = prepare
        self._judge = judge
        self._lane = lane
        self._slots = asyncio.Semaphore(at_most)
        self._room = Room(UNCONFIRMED_BYTES)
        self._seen = SeenIds()
        #: Tasks that have ended; None when the feeder has.
        self._news: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Result]] = set()
        self._feeder: asyncio.Task[None] | None = None

    async def results(self) -> AsyncIterator[Result]:
        """Each one's result as it comes; the source's own error ends it."""
        self._feeder = asyncio.create_task(self._feed())
        self._feeder.add_done_callback(lambda _: self._news.put_nowait(None))
        while self._tasks or not self._feeder.done():
            task = await self._news.get()
            if task is None:
                self._raise_for_feeder(self._feeder)
                continue
            self._tasks.discard(task)
            self._slots.release()
            yield task.result()
        self._raise_for_feeder(self._feeder)

    async def close(self) -> None:
        """End what is under way; nothing is left behind."""
        tasks: set[asyncio.Task[Any]] = set(self._tasks)
        if self._feeder is not None:
            tasks.add(self._feeder)
        for task in tasks:
            task.cancel()
        # Not the one that closes it: the source itself may end the client.
        tasks -= {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self) -> None:
        source = _each(self._source)
        while True:
            await self._slots.acquire()
            task = await self._next(source)
            if task is None:
                return
            self._tasks.add(task)
            task.add_done_callback(self._news.put_nowait)
            # A source that is always ready must not keep others from their turn.
            await asyncio.sleep(0)

    async def _next(self, source: AsyncIterator[Submission]) -> asyncio.Task[Result] | None:
        async for submission in source:
            try:
                prepared = self._prepare(submission)
                known = self._seen.add(prepared.id, prepared.content)
                if known is not None and known != prepared.content:
                    raise RejectedError("conflict", f"id {prepared.id!r} was used before with other content", "id")
            except RejectedError as error:
                return asyncio.create_task(_refused(submission, error, self._lane))
            if known is None:
                size = len(prepared.value)
                await self._room.take(size)
                return asyncio.create_task(self._judge(prepared, partial(self._room.give, size)))
        return None

    def _raise_for_feeder(self, feeder: asyncio.Task[None]) -> None:
        if feeder.cancelled():
            raise ClientStateError("the client was closed before all results came")
        feeder.result()


class Room:
    """Bytes that may be in use at one time; what is larger than all of it gets it alone. One takes, any number give."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._given = asyncio.Event()

    async def take(self, size: int) -> None:
        """Wait until there is room for so many."""
        while self._used and self._used + size > self._size:
            self._given.clear()
            await self._given.wait()
        self._used += size

    def give(self, size: int) -> None:
        """They are not in use any more."""
        self._used -= size
        self._given.set()


async def _each(source: Source) -> AsyncIterator[Submission]:
    if isinstance(source, AsyncIterable):
        async for submission in source:
            yield submission
    else:
        for submission in source:
            yield submission


async def _refused(submission: Submission, error: RejectedError, lane: str) -> Result:
    """What a worker would have answered."""
    named = str(getattr(submission, "id", ""))
    return rejected_result(named, error, lane=lane, worker=HERE)

"""No record is passed over: what arrives from a partition follows what came before it, or is read again.

Theory of operation
===================
Between the broker and our agent lie Faust's fetcher, queues that are cleared and generations that are compared. When
rebalances follow each other closely, a record can be fetched, the consumer's position moved past it, and the record
dropped without a word (measured, joins and leaves every second: 1 of some 500 records, in one of three runs; a flow
that was resumed for the generation before delivers into a queue that is cleared when the flow is resumed for this
one). The record after it is judged and committed, and the one before is never seen again.

So nothing is believed. For each assignment of a partition the broker says where it begins: at what is committed. From
there on every record must have the offset that is expected:

- It has: it goes on to intake.
- It is lower: it was taken before.
- It is higher: a *gap*. What comes is kept back, and a reader that has nothing to do with Faust asks the broker which
  offsets exist. If those in between do not (a transaction's marker, what compaction or retention removed), the gap is
  real and what was kept back goes on. If they do, the consumer seeks back, until they have come.

A record that is missing at the end of a partition leaves no gap to be seen. So once a second the consumer's position
is compared with what is expected; when it is ahead, and neither has moved since the last look, that is a gap as well.

Worst case for a record that was dropped: ``LOOK_S`` twice, one fetch, and ``SEEK_PAUSE_S`` for each seek whose records
were dropped as well. Nothing behind it in its partition is judged meanwhile.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Protocol

import structlog

from evalx.errors import EvalxError
from evalx.metrics import GAPS

log = structlog.get_logger(__name__)

#: Seconds between looks at whether something is missing at the end of a partition. Longer than records lie in Faust's
#: queue, which intake empties at once; shorter than anybody waits.
LOOK_S = 1.0
#: Seconds for records to arrive after a seek before it is repeated: one fetch, and a decoding of a large record.
SEEK_PAUSE_S = 0.5
#: Records kept back while a gap of their partition is looked into. More than that are dropped: they are read again.
MAX_KEPT = 1000


class Source(Protocol):
    """The consumer, and a second look at the topic."""

    def position(self, partition: Hashable) -> int | None:
        """The offset after the last one that was fetched; None while that is being found out."""

    async def seek(self, partition: Hashable, offset: int) -> None:
        """Fetch again from this offset on."""

    async def offsets_from(self, partition: Hashable, offset: int) -> list[int]:
        """The offsets of the first few records from this one on, as the broker has them; empty at the end."""


class _Assignment:
    """What one assignment of a partition has brought so far. ``expected`` is None until its begin is known."""

    __slots__ = ("existing", "expected", "kept", "looked_at", "repair")

    def __init__(self) -> None:
        self.expected: int | None = None
        #: Records beyond a gap, by offset.
        self.kept: dict[int, Any] = {}
        #: Offsets that exist, as the broker said: what lies between two of them does not.
        self.existing: list[int] = []
        self.looked_at: tuple[int, int] | None = None
        self.repair: asyncio.Task[None] | None = None

    def next_existing(self) -> int | None:
        """The first offset from the expected one on, if that is known."""
        assert self.expected is not None
        # They were asked for from an offset that was expected then, and what is expected only grows.
        at = bisect.bisect_left(self.existing, self.expected)
        return self.existing[at] if at < len(self.existing) else None


class Continuity:
    """Hands on records of each partition in order and without gaps. ``start`` looks for what is missing at the end."""

    def __init__(self, source: Source, hand_on: Callable[[Any], None]) -> None:
        self._source = source
        self._hand_on = hand_on
        self._assignments: dict[Hashable, _Assignment] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What looks; it ends only when it is stopped."""
        return self._task

    async def stop(self) -> None:
        """Look no more."""
        self.end(list(self._assignments))
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def prepare(self, partitions: Iterable[Hashable]) -> None:
        """An assignment begins. What comes is kept back until ``begin``."""
        for partition in partitions:
            self.end([partition])
            self._assignments[partition] = _Assignment()

    def begin(self, starts: Mapping[Any, int]) -> None:
        """The first offset that each partition must bring."""
        for partition, start in starts.items():
            assignment = self._assignments.setdefault(partition, _Assignment())
            assignment.expected = start
            self._go_on(partition, assignment)

    def end(self, partitions: Iterable[Hashable]) -> None:
        """These partitions belong to somebody else now."""
        for partition in partitions:
            assignment = self._assignments.pop(partition, None)
            if assignment is not None and assignment.repair is not None:
                assignment.repair.cancel()

    def take(self, partition: Hashable, offset: int, record: Any) -> None:
        """A record has arrived: hand it on, and what was kept back behind it; or keep it back."""
        assignment = self._assignments.get(partition)
        if assignment is None:
            # Of an assignment that has ended: whoever has the partition now reads it again.
            log.info("record_not_ours", partition=_number(partition), offset=offset)
        elif assignment.expected is not None and offset < assignment.expected:
            log.info("record_seen_twice", partition=_number(partition), offset=offset)
        elif offset == assignment.expected and not assignment.kept:
            assignment.expected += 1
            self._hand_on(record)
        else:
            if len(assignment.kept) < MAX_KEPT or offset == assignment.expected:
                assignment.kept[offset] = record
            self._go_on(partition, assignment)

    def look(self) -> None:
        """Compare what the consumer has fetched with what has arrived."""
        for partition, assignment in self._assignments.items():
            position = self._source.position(partition)
            if position is None or assignment.expected is None or position <= assignment.expected:
                assignment.looked_at = None
                continue
            if assignment.looked_at == (assignment.expected, position):
                self._repair(partition, assignment)
            assignment.looked_at = (assignment.expected, position)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def _go_on(self, partition: Hashable, assignment: _Assignment) -> None:
        """Hand on what is kept back, up to the next gap that is not known to be real."""
        if assignment.expected is None:
            return
        for offset in sorted(assignment.kept):
            if offset > assignment.expected and offset != assignment.next_existing():
                self._repair(partition, assignment)
                return
            record = assignment.kept.pop(offset)
            if offset >= assignment.expected:
                assignment.expected = offset + 1
                self._hand_on(record)

    def _repair(self, partition: Hashable, assignment: _Assignment) -> None:
        if assignment.repair is None or assignment.repair.done():
            assignment.repair = asyncio.create_task(self._close_gap(partition, assignment))

    async def _close_gap(self, partition: Hashable, assignment: _Assignment) -> None:
        """Until the gap is known to be real, or what was missing has come."""
        while (expected := self._missing(partition, assignment)) is not None:
            try:
                assignment.existing = await self._source.offsets_from(partition, expected)
                await self._reread(partition, assignment, expected)
            except EvalxError as error:
                # Without a broker nothing arrives either; nothing of this partition is judged until it is known.
                log.warning("gap_not_closed", partition=_number(partition), expected=expected, error=str(error))
            await asyncio.sleep(SEEK_PAUSE_S)

    async def _reread(self, partition: Hashable, assignment: _Assignment, expected: int) -> None:
        if assignment.expected != expected:
            return
        if expected in assignment.existing:
            GAPS.labels("dropped").inc()
            log.warning("records_dropped_by_the_consumer", partition=_number(partition), expected=expected)
            await self._source.seek(partition, expected)
            return
        GAPS.labels("real").inc()
        # With nothing behind the gap, only markers up to the end: then the next record comes after what was fetched.
        behind = assignment.existing or sorted(assignment.kept) or [self._source.position(partition) or expected]
        assignment.expected = behind[0]
        self._go_on(partition, assignment)

    def _missing(self, partition: Hashable, assignment: _Assignment) -> int | None:
        """The offset that is expected, when something beyond it has been fetched already and it has not come."""
        if self._assignments.get(partition) is not assignment or assignment.expected is None:
            return None
        position = self._source.position(partition)
        ahead = position is not None and position > assignment.expected
        return assignment.expected if assignment.kept or ahead else None


def _number(partition: Any) -> Any:
    return getattr(partition, "partition", partition)

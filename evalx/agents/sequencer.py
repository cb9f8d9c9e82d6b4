"""Ordered acknowledgement: a partition's offset moves only over a finished, contiguous prefix.

Theory of operation
===================
Kafka keeps one number per partition and group: everything below it counts as processed. Submissions finish out of
order, so an offset may be released only when every earlier one has finished; a crash then repeats work and never skips
it. Faust itself does not guarantee this: acknowledgements that arrive before the first commit of a partition are
committed past an unfinished offset (measured: first record slow, 19 fast, ``kill -9``: record 0 was never judged).

``take`` is called in partition order, ``finish`` in any order. ``finish`` returns what has become releasable, in order.

Every assignment of a partition has its own *epoch*. A revoked partition forgets its tickets, and a submission that was
still being judged then finishes with a ticket of a dead epoch: nothing is released for it, since the partition's
offsets belong to another worker, or to a later assignment that reads the same records again.

Before that it is *closed*: what finishes from then on is committed by whoever gives the partition up, in one go, and
not acknowledged one by one. A consumer that commits by itself while the group rebalances does so for a generation that
is over; it is refused, joins again, and the whole group rebalances once more (measured: such commits took 2-4 s).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Ticket:
    """The place of one taken record in the order of its partition.

    It does not know the record, which knows it: in a cycle they, and the submission's bytes with them, would wait for
    the garbage collector, which looks at what has lived for a while only once in a long time.
    """

    __slots__ = ("epoch", "finished", "offset", "partition")

    def __init__(self, partition: Hashable, epoch: int, offset: int) -> None:
        self.partition = partition
        self.epoch = epoch
        self.offset = offset
        self.finished = False


class _Assignment(Generic[ItemT]):
    """The tickets of one partition during one assignment, oldest first."""

    __slots__ = ("closed", "epoch", "last_offset", "next_offset", "waiting")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.waiting: deque[tuple[Ticket, ItemT]] = deque()
        self.next_offset: int | None = None
        self.last_offset = -1
        self.closed = False


class Sequencer(Generic[ItemT]):
    """Releases items of each partition in the order in which they were taken."""

    def __init__(self) -> None:
        self._assignments: dict[Hashable, _Assignment[ItemT]] = {}
        self._epoch = 0

    def take(self, partition: Hashable, offset: int, item: ItemT) -> Ticket | None:
        """Enter a record into its partition's order.

        Returns None for an offset that was taken before in this assignment: the record is already on its way.
        """
        assignment = self._assignments.get(partition)
        if assignment is None:
            self._epoch += 1
            assignment = self._assignments[partition] = _Assignment(self._epoch)
        if offset <= assignment.last_offset:
            return None
        assignment.last_offset = offset
        ticket = Ticket(partition, assignment.epoch, offset)
        assignment.waiting.append((ticket, item))
        return ticket

    def finish(self, ticket: Ticket) -> list[ItemT]:
        """Mark a record as finished and return the items that may be acknowledged now, in order.

        Those of a closed partition may not; ``committable`` knows of them.
        """
        ticket.finished = True
        assignment = self._assignments.get(ticket.partition)
        if assignment is None or assignment.epoch != ticket.epoch:
            return []
        released = []
        while assignment.waiting and assignment.waiting[0][0].finished:
            head, item = assignment.waiting.popleft()
            assignment.next_offset = head.offset + 1
            released.append(item)
        return [] if assignment.closed else released

    def is_current(self, ticket: Ticket) -> bool:
        """Whether the ticket's partition is still held in the assignment in which the record was taken."""
        assignment = self._assignments.get(ticket.partition)
        return assignment is not None and assignment.epoch == ticket.epoch

    def committable(self, partitions: Iterable[Hashable]) -> dict[Hashable, int]:
        """The offset to commit for each partition of which a prefix has finished in this assignment."""
        offsets: dict[Hashable, int] = {}
        for partition in partitions:
            assignment = self._assignments.get(partition)
            if assignment is not None and assignment.next_offset is not None:
                offsets[partition] = assignment.next_offset
        return offsets

    def close(self, partitions: Iterable[Hashable]) -> None:
        """These partitions are being given up: from now on nothing of them may be acknowledged."""
        for partition in partitions:
            if partition in self._assignments:
                self._assignments[partition].closed = True

    def revoke(self, partitions: Iterable[Hashable]) -> None:
        """Forget partitions that this worker no longer holds."""
        for partition in partitions:
            self._assignments.pop(partition, None)

    def pending(self) -> dict[Hashable, int]:
        """How many taken records of each partition have not been released yet."""
        return {partition: len(assignment.waiting) for partition, assignment in self._assignments.items()}

    @property
    def unfinished(self) -> int:
        """How many taken records have not been released yet."""
        return sum(len(assignment.waiting) for assignment in self._assignments.values())

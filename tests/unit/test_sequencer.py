"""The committed offset never passes an unfinished record, whatever finishes, leaves and comes back in what order.

Kills the mutant "plain ``concurrency=4``": acknowledging each record as it finishes.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from evalx.agents.sequencer import Sequencer, Ticket

PARTITIONS = ("p0", "p1", "p2")


def taken(sequencer: Sequencer[int], partition: str, *offsets: int) -> list[Ticket]:
    tickets = [sequencer.take(partition, offset, offset) for offset in offsets]
    assert None not in tickets
    return tickets


def test_releases_in_order_and_only_a_finished_prefix():
    sequencer: Sequencer[int] = Sequencer()
    first, second, third = taken(sequencer, "p0", 10, 11, 12)
    assert sequencer.finish(third) == []
    assert sequencer.finish(second) == []
    assert sequencer.committable(["p0"]) == {}
    assert sequencer.finish(first) == [10, 11, 12]
    assert sequencer.committable(["p0"]) == {"p0": 13}
    assert sequencer.unfinished == 0


def test_partitions_do_not_wait_for_each_other():
    sequencer: Sequencer[int] = Sequencer()
    taken(sequencer, "p0", 0)
    (other,) = taken(sequencer, "p1", 0)
    assert sequencer.finish(other) == [0]
    assert sequencer.committable(PARTITIONS) == {"p1": 1}


def test_gaps_in_offsets_are_no_unfinished_records():
    # Transaction markers and compaction leave holes.
    sequencer: Sequencer[int] = Sequencer()
    first, second = taken(sequencer, "p0", 3, 7)
    assert sequencer.finish(first) == [3]
    assert sequencer.committable(["p0"]) == {"p0": 4}
    assert sequencer.finish(second) == [7]
    assert sequencer.committable(["p0"]) == {"p0": 8}


@pytest.mark.parametrize("offset", [4, 5])
def test_a_record_that_was_taken_is_not_taken_again(offset: int):
    sequencer: Sequencer[int] = Sequencer()
    taken(sequencer, "p0", 4, 5)
    assert sequencer.take("p0", offset, offset) is None


def test_a_ticket_of_an_earlier_assignment_releases_nothing():
    sequencer: Sequencer[int] = Sequencer()
    (old,) = taken(sequencer, "p0", 0)
    sequencer.revoke(["p0"])
    assert not sequencer.is_current(old)
    (new,) = taken(sequencer, "p0", 0)
    assert sequencer.is_current(new)
    assert sequencer.finish(old) == []
    assert sequencer.committable(["p0"]) == {}
    assert sequencer.finish(new) == [0]


def test_a_closed_partition_releases_nothing_and_knows_what_to_commit():
    """Else the consumer commits by itself while the group rebalances, is refused, and the group rebalances again."""
    sequencer: Sequencer[int] = Sequencer()
    first, second = taken(sequencer, "p0", 0, 1)
    (other,) = taken(sequencer, "p1", 0)
    sequencer.finish(first)
    sequencer.close(["p0", "p2"])
    assert sequencer.is_current(second)
    assert sequencer.finish(second) == []
    assert sequencer.committable(["p0"]) == {"p0": 2}
    assert sequencer.finish(other) == [0]
    sequencer.revoke(["p0"])
    (again,) = taken(sequencer, "p0", 2)
    assert sequencer.finish(again) == [2]


def test_finishing_twice_releases_once():
    sequencer: Sequencer[int] = Sequencer()
    (ticket,) = taken(sequencer, "p0", 0)
    assert sequencer.finish(ticket) == [0]
    assert sequencer.finish(ticket) == []


class Delivery(RuleBasedStateMachine):
    """A broker with three partitions, and a worker that takes, finishes in any order, loses and regains partitions."""

    def __init__(self) -> None:
        super().__init__()
        self.sequencer: Sequencer[tuple[str, int]] = Sequencer()
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.position = dict.fromkeys(PARTITIONS, 0)
        self.judged: dict[str, set[int]] = {partition: set() for partition in PARTITIONS}
        self.acked: dict[str, list[int]] = {partition: [] for partition in PARTITIONS}
        self.open: list[Ticket] = []

    @rule(partition=st.sampled_from(PARTITIONS), gap=st.integers(0, 2))
    def take(self, partition: str, gap: int) -> None:
        offset = self.position[partition] + gap
        # What lies in a gap does not exist, so nobody has to judge it.
        self.judged[partition] |= set(range(self.position[partition], offset))
        ticket = self.sequencer.take(partition, offset, (partition, offset))
        assert ticket is not None
        self.position[partition] = offset + 1
        self.open.append(ticket)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        ticket = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.judged[ticket.partition].add(ticket.offset)
        for partition, offset in self.sequencer.finish(ticket):
            self.acked[partition].append(offset)

    @rule()
    def commit(self) -> None:
        for partition, offset in self.sequencer.committable(PARTITIONS).items():
            assert offset >= self.committed[partition]
            self.committed[partition] = offset

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS), min_size=1), commits=st.booleans())
    def revoke_and_reassign(self, partitions: set[str], commits: bool) -> None:
        """With a commit, or without one as after a lost session: then acknowledged records are read again."""
        if commits:
            self.commit()
        self.sequencer.revoke(partitions)
        for partition in partitions:
            self.position[partition] = self.committed[partition]
            self.acked[partition] = []

    @rule()
    def crash_and_restart(self) -> None:
        """Everything in memory is gone, also what had been acknowledged and not committed."""
        self.open.clear()
        self.sequencer = Sequencer()
        self.position = dict(self.committed)
        self.acked = {partition: [] for partition in PARTITIONS}

    @precondition(lambda self: any(self.position.values()))
    @rule(data=st.data())
    def read_again(self, data: st.DataObject) -> None:
        """A consumer that seeks back within an assignment: what is on its way is not entered twice."""
        partition = data.draw(
            st.sampled_from([p for p in PARTITIONS if self.position[p] > self.committed[p]] or ["p0"])
        )
        if self.sequencer.unfinished and self.taken_in_this_assignment(partition):
            offset = data.draw(st.integers(0, self.position[partition] - 1))
            assert self.sequencer.take(partition, offset, (partition, offset)) is None

    def taken_in_this_assignment(self, partition: str) -> bool:
        return any(ticket.partition == partition and self.sequencer.is_current(ticket) for ticket in self.open)

    @invariant()
    def never_past_an_unfinished_record(self) -> None:
        for partition in PARTITIONS:
            could_commit = self.sequencer.committable([partition]).get(partition, self.committed[partition])
            missing = set(range(could_commit)) - self.judged[partition]
            assert not missing, f"{partition}: {could_commit} passes {min(missing)}"

    @invariant()
    def acknowledged_in_order(self) -> None:
        for offsets in self.acked.values():
            assert offsets == sorted(set(offsets))

    def teardown(self) -> None:
        """When everything of the present assignments has finished, everything that was read can be committed."""
        for ticket in self.open:
            self.sequencer.finish(ticket)
        for partition, offset in self.sequencer.committable(PARTITIONS).items():
            assert offset == self.position[partition]
        assert self.sequencer.unfinished == 0


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

"""Lets records wait for an identical batch that is being judged here without keeping a place of the worker.

Theory of operation
===================
A place that judges what another place judges already only waits for that one. When many send the same at once, such
waiters soon have all places: the worker does nothing but one batch, and what else was sent, be it of a higher lane,
begins when that is over. So once half of the places are taken, a record whose batch is being judged in another place
goes back to its lane and gives its place up. It *follows*: it counts in the lane, which holds its partition back when
there are too many, and no place gets it. When the place that judges the batch is done, whatever came of it, those who
followed are looked up again (``front``), and what is known by then is answered together.

A record follows at most once. If nothing came of the batch it waits for a place like any other, so a batch that cannot
be judged is not tried by one place after the other.

Nothing is claimed for a record that follows and nothing was written, so there is nothing to undo: one whose partition
is lost is dropped with its lane.
"""

from __future__ import annotations

from collections.abc import Callable

from evalx.agents.lanes import Lanes
from evalx.agents.records import Record


class Followers:
    """Who waits for what a place of this worker judges."""

    def __init__(self, lanes: Lanes[Record], places: int) -> None:
        self._lanes = lanes
        self._spare = places // 2
        self._by_batch: dict[str, list[Record]] = {}
        #: Looks a record up again; until it is set, nobody follows.
        self.look_again: Callable[[Record], None] | None = None

    def follow(self, record: Record, in_flight: int) -> bool:
        """Whether the record waits outside of the places, of which so many are taken; else its batch begins now."""
        if self.look_again is None or not record.batch:
            return False
        followers = self._by_batch.get(record.batch)
        if followers is None:
            self._by_batch[record.batch] = []
            record.leads = True
            return False
        if record.has_followed or in_flight < self._spare:
            return False
        record.has_followed = True
        self._lanes.admit(record)
        followers.append(record)
        return True

    def end(self, record: Record) -> None:
        """A record that did not follow leaves its place; who followed it is looked up again."""
        if self.look_again is None or not record.leads:
            return
        record.leads = False
        for follower in self._by_batch.pop(record.batch, ()):
            # One that was dropped meanwhile is another worker's.
            if self._lanes.leave(follower):
                self.look_again(follower)

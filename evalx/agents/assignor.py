"""Deals partitions so that every worker gets its share of every lane.

Faust's own assignor counts partitions and knows no lanes: two workers get partitions 0-5 and 6-11, so that one of them
has the whole high lane and the other none of it. Here the partitions of each lane are dealt in turn, and each lane
begins where the one before it ended, so that the totals differ by one at most as well.

Nothing is kept of what was dealt before: Faust revokes every partition in a rebalance anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from typing import Any

from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor

from evalx.settings import Lane


def deal(lanes: Iterable[Lane], members: Iterable[str]) -> dict[str, list[int]]:
    """The partitions of each member."""
    shares: dict[str, list[int]] = {member: [] for member in members}
    turn = cycle(shares)
    for lane in lanes:
        for partition in lane.partitions:
            shares[next(turn)].append(partition)
    return shares


class LaneAssignor(PartitionAssignor):
    """Faust's protocol on the wire, with another way of dealing. For one topic, without tables."""

    def __init__(self, lanes: tuple[Lane, ...], app: Any, replicas: int = 0) -> None:
        super().__init__(app, replicas=replicas)
        self._lanes = lanes

    def _perform_assignment(self, _cluster: Any, member_metadata: Mapping[str, Any]) -> Any:
        clients = {member: self._get_client_metadata(metadata) for member, metadata in member_metadata.items()}
        self._update_member_urls(clients)
        topics = sorted({topic for metadata in member_metadata.values() for topic in metadata.subscription})
        # Sorted: the order in which members joined is no reason to move a partition.
        shares = deal(self._lanes, sorted(clients))
        assignments = {
            member: ClientAssignment(actives={topic: sorted(share) for topic in topics}, standbys={})
            for member, share in shares.items()
        }
        distribution = self._get_external_topic_distribution(assignments)
        return self._protocol_assignments(assignments, {}, distribution, dict.fromkeys(topics, 0))


def assignor_of(lanes: tuple[Lane, ...]) -> Callable[..., LaneAssignor]:
    """What Faust calls with its app to make the assignor."""
    return lambda app, replicas=0: LaneAssignor(lanes, app, replicas)

"""Deals partitions so that every worker gets its share of every lane.

Faust's own assignor counts partitions and knows no lanes: two workers get partitions 0-5 and 6-11, so that one of them
has the whole high lane and the other none of it. Here every worker gets as many partitions of each lane as any other,
or one more; who has one more in one lane comes last for it in the next, so that the totals differ by one at most too.

What a worker held before it keeps, as far as its share goes. Faust revokes every partition in a rebalance, also those
that come back; but a submission that was being judged meanwhile is awaited where it comes back to, and judged again
where nobody knows of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor

from evalx.settings import Lane


def deal(lanes: Iterable[Lane], held: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    """The partitions of each member, given those that it held before."""
    before = _undisputed(held)
    shares: dict[str, list[int]] = {member: [] for member in sorted(held)}
    extras: Counter[str] = Counter()
    for lane in lanes:
        kept = {member: [p for p in lane.partitions if before.get(p) == member] for member in shares}
        quota = _quotas(len(lane.partitions), kept, extras)
        for member, share in shares.items():
            share += kept[member][: quota[member]]
            kept[member] = kept[member][: quota[member]]
        taken = {partition for partitions in kept.values() for partition in partitions}
        free = iter([partition for partition in lane.partitions if partition not in taken])
        for member, share in shares.items():
            share += [next(free) for _ in range(quota[member] - len(kept[member]))]
    return {member: sorted(share) for member, share in shares.items()}


def _undisputed(held: Mapping[str, Iterable[int]]) -> dict[int, str]:
    """Who held a partition; of two that say so, as after a worker was thought dead, either will do."""
    return {partition: member for member in sorted(held, reverse=True) for partition in held[member]}


def _quotas(partitions: int, kept: Mapping[str, list[int]], extras: Counter[str]) -> dict[str, int]:
    """How many of a lane each member gets; ``extras`` counts who got one more than others, over all lanes."""
    base, more = divmod(partitions, len(kept))
    # Among those whose turn it is, who would have to give one up keeps it.
    in_turn = sorted(kept, key=lambda member: (extras[member], -len(kept[member]), member))
    extras.update(in_turn[:more])
    return {member: base + (member in in_turn[:more]) for member in kept}


class LaneAssignor(PartitionAssignor):
    """Faust's protocol on the wire, with another way of dealing. For one topic, without tables."""

    def __init__(self, lanes: tuple[Lane, ...], app: Any, replicas: int = 0) -> None:
        super().__init__(app, replicas=replicas)
        self._lanes = lanes

    def _perform_assignment(self, _cluster: Any, member_metadata: Mapping[str, Any]) -> Any:
        clients = {member: self._get_client_metadata(metadata) for member, metadata in member_metadata.items()}
        self._update_member_urls(clients)
        topics = sorted({topic for metadata in member_metadata.values() for topic in metadata.subscription})
        shares = deal(self._lanes, {member: _held(metadata) for member, metadata in clients.items()})
        assignments = {
            member: ClientAssignment(actives={topic: sorted(share) for topic in topics}, standbys={})
            for member, share in shares.items()
        }
        distribution = self._get_external_topic_distribution(assignments)
        return self._protocol_assignments(assignments, {}, distribution, dict.fromkeys(topics, 0))


def _held(metadata: Any) -> list[int]:
    """What a member was assigned last, by its own account; nothing when it has just started."""
    return [partition for partitions in metadata.assignment.actives.values() for partition in partitions]


def assignor_of(lanes: tuple[Lane, ...]) -> Callable[..., LaneAssignor]:
    """What Faust calls with its app to make the assignor."""
    return lambda app, replicas=0: LaneAssignor(lanes, app, replicas)

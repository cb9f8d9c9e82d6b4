"""Every worker gets its share of every lane, and keeps what it has as far as it can."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata

from evalx.agents.assignor import LaneAssignor, deal
from evalx.settings import Lane, parse_lanes

LANES = {
    "the default": "high=0-3,normal=4-7,low=8-11",
    "one lane": "only=0-4",
    "uneven": "high=0-4,normal=5-6,low=7-14",
    "extended": "high=0-3,12-13,normal=4-7,low=8-11,14",
    "many": "high=0-15,normal=16-31,low=32-47",
}
MEMBERS = "abcdefgh"
Shares = dict[str, list[int]]


@pytest.fixture(params=LANES.values(), ids=LANES)
def lanes(request: pytest.FixtureRequest) -> tuple[Lane, ...]:
    return parse_lanes(request.param)


def fresh(members: Iterable[str]) -> Shares:
    return {member: [] for member in members}


def check_fair(lanes: tuple[Lane, ...], shares: Shares) -> None:
    dealt = [partition for share in shares.values() for partition in share]
    assert sorted(dealt) == sorted(partition for lane in lanes for partition in lane.partitions)
    totals = [len(share) for share in shares.values()]
    assert max(totals) - min(totals) <= 1
    for lane in lanes:
        counts = [len(set(share) & set(lane.partitions)) for share in shares.values()]
        assert max(counts) - min(counts) <= 1, f"lane {lane.name}: {shares}"


def moved(before: Shares, after: Shares) -> int:
    """Partitions that went from one member that stays to another."""
    owner = {partition: member for member, share in before.items() for partition in share}
    return sum(owner[p] != member and owner[p] in after for member, share in after.items() for p in share)


@pytest.mark.parametrize("count", range(1, 9))
def test_every_member_has_its_share_of_every_lane(lanes: tuple[Lane, ...], count: int):
    check_fair(lanes, deal(lanes, fresh(MEMBERS[:count])))


@pytest.mark.parametrize("count", range(1, 9))
def test_nothing_moves_when_nobody_came_or_left(lanes: tuple[Lane, ...], count: int):
    shares = deal(lanes, fresh(MEMBERS[:count]))
    assert deal(lanes, shares) == shares


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("name", ["A", "z"])
def test_who_joins_takes_hardly_more_than_its_share(lanes: tuple[Lane, ...], count: int, name: str):
    """Besides the share of the new one, at most one partition of a lane moves: the one that somebody has more of."""
    before = deal(lanes, fresh(MEMBERS[:count]))
    after = deal(lanes, {**before, name: []})
    check_fair(lanes, after)
    assert moved(before, after) <= len(after[name]) + len(lanes) * (count - 1 > 0)


@pytest.mark.parametrize("count", range(2, 9))
@pytest.mark.parametrize("leaves", [0, -1])
def test_who_leaves_moves_hardly_more_than_its_share(lanes: tuple[Lane, ...], count: int, leaves: int):
    before = deal(lanes, fresh(MEMBERS[:count]))
    gone = MEMBERS[:count][leaves]
    after = deal(lanes, {member: share for member, share in before.items() if member != gone})
    check_fair(lanes, after)
    assert moved(before, after) <= len(lanes)


def test_shares_stay_fair_through_many_comings_and_goings(lanes: tuple[Lane, ...]):
    shares = deal(lanes, fresh("a"))
    for step in ("ab", "abc", "bc", "bcdefgh", "h", "abcdefgh", "ah", "ahc"):
        shares = deal(lanes, {member: shares.get(member, []) for member in step})
        check_fair(lanes, shares)


def test_a_partition_that_two_claim_is_dealt_once(lanes: tuple[Lane, ...]):
    everything = [partition for lane in lanes for partition in lane.partitions]
    check_fair(lanes, deal(lanes, {"a": everything, "b": everything, "c": []}))


def test_what_no_lane_names_is_dealt_to_nobody():
    lanes = parse_lanes("high=0-1,low=2-3")
    check_fair(lanes, deal(lanes, {"a": [0, 7], "b": [99]}))


class Member:
    """What the group's leader is told of a member."""

    def __init__(self, actives: dict[str, list[int]]) -> None:
        self.subscription = ["evalx.submissions"]
        self.user_data = ClientMetadata(
            assignment=ClientAssignment(actives=actives, standbys={}),
            url="http://localhost",
            changelog_distribution={},
            external_topic_distribution={},
            topic_groups={},
        ).dumps()


def test_the_leader_believes_what_members_say_they_held():
    lanes = parse_lanes("high=0-3,low=4-7")
    held = {"a": [2, 3, 6, 7], "b": [0, 1, 4, 5]}
    members: dict[str, Any] = {name: Member({"evalx.submissions": share}) for name, share in held.items()}
    assignor = object.__new__(LaneAssignor)
    assignor._lanes = lanes
    assignor._member_urls = {}
    assignor._table_manager = _NoTables()
    dealt = assignor._perform_assignment(None, members)
    assert {name: sorted(p for _, parts in a.assignment for p in parts) for name, a in dealt.items()} == held


class _NoTables:
    changelog_topics: frozenset[str] = frozenset()

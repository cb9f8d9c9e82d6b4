"""Which record is judged next, and when the broker is asked for no more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import groupby

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from evalx.agents.lanes import GRANTS_PER_TURN, Lanes
from evalx.testing import FakeFlow

LANE_OF = {"h0": "high", "h1": "high", "n0": "normal", "l0": "low", "l1": "low"}


@dataclass(eq=False)
class Item:
    partition: str
    number: int = 0
    size: int = 1


def make(max_count: int = 1000, max_bytes: int = 1 << 20) -> tuple[Lanes[Item], FakeFlow]:
    flow = FakeFlow()
    names = ("high", "normal", "low")
    return Lanes(names, LANE_OF.__getitem__, flow, max_count=max_count, max_bytes=max_bytes), flow


async def take_all(lanes: Lanes[Item]) -> list[Item]:
    return [await lanes.take() for _ in range(sum(lanes.waiting().values()))]


async def test_the_highest_lane_with_work_comes_first():
    lanes, _ = make()
    for partition in ("l0", "n0", "h0"):
        lanes.put(Item(partition))
    assert [item.partition for item in await take_all(lanes)] == ["h0", "n0", "l0"]


async def test_within_a_lane_first_in_first_out():
    lanes, _ = make()
    for number in range(5):
        lanes.put(Item("h0" if number % 2 else "h1", number))
    assert [item.number for item in await take_all(lanes)] == list(range(5))


async def test_without_priorities_lanes_take_turns():
    names = ("high", "normal", "low")
    lanes = Lanes[Item](names, LANE_OF.__getitem__, FakeFlow(), max_count=9, max_bytes=9, priorities=False)
    for partition in ("l0", "l1", "h0", "h1", "n0"):
        lanes.put(Item(partition))
    assert [item.partition for item in await take_all(lanes)] == ["h0", "n0", "l0", "h1", "l1"]
    assert [lanes.rank(name) for name in names] == [0, 0, 0]


async def test_a_lower_lane_gets_one_grant_in_ten():
    lanes, _ = make()
    for number in range(300):
        lanes.put(Item("h0", number))
    for number in range(30):
        lanes.put(Item("l0", number))
    grants = [(await lanes.take()).partition for _ in range(300)]
    assert grants.count("l0") == 300 // GRANTS_PER_TURN
    longest = max(len(list(group)) for partition, group in groupby(grants) if partition == "h0")
    assert longest == GRANTS_PER_TURN - 1


async def test_every_lower_lane_gets_its_share():
    lanes, _ = make()
    for number in range(200):
        for partition in ("h0", "n0", "l0"):
            lanes.put(Item(partition, number))
    grants = [(await lanes.take()).partition for _ in range(100)]
    assert grants.count("n0") >= 9
    assert grants.count("l0") >= 9
    assert grants.count("h0") >= 78


async def test_a_lane_without_work_does_not_save_up_grants():
    lanes, _ = make()
    for number in range(100):
        lanes.put(Item("h0", number))
    for _ in range(50):
        await lanes.take()
    for number in range(10):
        lanes.put(Item("l0", number))
    assert [(await lanes.take()).partition for _ in range(9)] == ["h0"] * 9


@given(
    st.lists(st.sampled_from(["h0", "n0", "l0", "take", "take"]), max_size=200),
    st.integers(0, 150),
)
@settings(deadline=None, max_examples=60)
async def test_no_lane_with_work_waits_longer_than_ten_grants(steps: list[str], backlog: int):
    """Also when two lower lanes become due at the same time."""
    lanes, _ = make()
    waited = dict.fromkeys(("high", "normal", "low"), 0)
    for number in range(backlog):
        lanes.put(Item(("h0", "n0", "l0")[number % 3], number))
    for step in [*steps, *["take"] * 300]:
        if step != "take":
            lanes.put(Item(step))
            continue
        waiting = lanes.waiting()
        if not any(waiting.values()):
            continue
        granted = LANE_OF[(await lanes.take()).partition]
        waited = {lane: waited[lane] + 1 if waiting[lane] and lane != granted else 0 for lane in waited}
        assert max(waited.values()) < GRANTS_PER_TURN


async def test_a_place_of_higher_lanes_takes_nothing_of_lower_ones():
    lanes, _ = make()
    for partition in ("l0", "n0", "l1"):
        lanes.put(Item(partition))
    high = asyncio.create_task(lanes.take("high"))
    assert (await lanes.take("normal")).partition == "n0"
    assert not high.done()
    assert (await lanes.take()).partition == "l0"
    lanes.put(Item("h0"))
    assert (await high).partition == "h0"


async def test_grants_of_higher_lanes_places_cost_the_lower_ones_no_turn():
    lanes, _ = make()
    lanes.put(Item("l0"))
    for number in range(2 * GRANTS_PER_TURN):
        lanes.put(Item("h0", number))
    for _ in range(GRANTS_PER_TURN):
        assert (await lanes.take("high")).partition == "h0"
    grants = [(await lanes.take()).partition for _ in range(GRANTS_PER_TURN)]
    assert grants.count("l0") == 1


def test_each_lane_but_the_lowest_has_places_of_its_own():
    assert make()[0].reserved(2) == ["high", "high", "normal", "normal"]
    names = ("high", "low")
    turns = Lanes[Item](names, LANE_OF.__getitem__, FakeFlow(), max_count=9, max_bytes=9, priorities=False)
    assert turns.reserved(2) == []


async def test_a_dropped_lane_saves_up_no_grants():
    lanes, _ = make()
    for number in range(30):
        lanes.put(Item("h0", number))
    lanes.put(Item("l0"))
    for _ in range(8):
        await lanes.take()
    lanes.drop(["l0"])
    lanes.put(Item("l0"))
    assert [(await lanes.take()).partition for _ in range(9)] == ["h0"] * 9


async def test_take_waits_for_work():
    lanes, _ = make()
    waiting = asyncio.create_task(lanes.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    lanes.put(Item("n0", 7))
    assert (await waiting).number == 7


@pytest.mark.parametrize("bound", [{"max_count": 10}, {"max_bytes": 10}])
async def test_a_full_lane_is_held_until_half_of_it_is_gone(bound: dict[str, int]):
    lanes, flow = make(**bound)
    for number in range(9):
        lanes.put(Item("l0", number))
    assert flow.held == set()
    lanes.put(Item("l1", 9))
    assert flow.held == {"l1"}
    lanes.put(Item("l0", 10))
    assert flow.held == {"l0", "l1"}
    for _ in range(5):
        await lanes.take()
    assert flow.held == {"l0", "l1"}
    await lanes.take()
    assert flow.held == set()


async def test_a_held_partition_is_held_again_for_each_record_that_still_arrives():
    # Faust's own buffer pressure may have released it meanwhile.
    lanes, flow = make(max_count=1)
    for number in range(3):
        lanes.put(Item("l0", number))
    assert flow.journal == [("hold", "l0")] * 3


async def test_a_full_low_lane_does_not_hold_the_high_one():
    lanes, flow = make(max_count=2)
    for number in range(5):
        lanes.put(Item("l0", number))
    lanes.put(Item("h0"))
    assert flow.held == {"l0"}


async def test_one_record_larger_than_the_bound_is_held_and_released():
    lanes, flow = make(max_bytes=10)
    lanes.put(Item("n0", size=1000))
    assert flow.held == {"n0"}
    await lanes.take()
    assert flow.held == set()


async def test_what_is_dropped_is_forgotten_and_never_released():
    lanes, flow = make(max_count=4)
    for number in range(4):
        lanes.put(Item("l0" if number < 3 else "l1", number))
    lanes.put(Item("n0"))
    dropped = lanes.drop(["l0"])
    assert [item.number for item in dropped] == [0, 1, 2]
    assert lanes.waiting() == {"high": 0, "normal": 1, "low": 1}
    await take_all(lanes)
    assert ("release", "l0") not in flow.journal


async def test_a_drop_that_drains_a_lane_releases_the_partitions_that_stay():
    # Nothing of l1 is queued any more, so no later grant would release it.
    lanes, flow = make(max_count=4)
    for partition in ("l0", "l0", "l0", "l1", "l0", "l0", "l0", "l0"):
        lanes.put(Item(partition))
    for _ in range(4):
        await lanes.take()
    assert flow.held == {"l0", "l1"}
    lanes.drop(["l0"])
    assert ("release", "l1") in flow.journal
    assert ("release", "l0") not in flow.journal


def test_rank_is_the_place_in_the_order():
    lanes, _ = make()
    assert [lanes.rank(name) for name in ("high", "normal", "low")] == [0, 1, 2]

"""Whatever the consumer drops, every record is handed on, once and in order; and a real gap stops nothing."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from evalx.agents import continuity
from evalx.agents.continuity import Continuity
from evalx.errors import ServiceUnavailableError


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "LOOK_S", 0.0)
    monkeypatch.setattr(continuity, "SEEK_PAUSE_S", 0.0)


class Broker:
    """One partition with some offsets, read by a consumer that drops some of what it has fetched."""

    def __init__(self, offsets: list[int], *, end: int = 0, drop: Any = lambda _offset: False) -> None:
        self.offsets = offsets
        self.end = max(end, *(offset + 1 for offset in offsets), 0)
        self.drop = drop
        self.fetched = 0
        self.seeks: list[int] = []
        self.looks = 0
        self.away = 0
        self.handed_on: list[int] = []
        self.continuity = Continuity(self, self.handed_on.append)

    def position(self, _partition: Any) -> int | None:
        return self.fetched

    async def seek(self, _partition: Any, offset: int) -> None:
        self.seeks.append(offset)
        self.fetched = offset

    async def offsets_from(self, _partition: Any, offset: int) -> list[int]:
        self.looks += 1
        if self.away:
            self.away -= 1
            raise ServiceUnavailableError("Kafka", "x:9092", "away")
        return [one for one in self.offsets if one >= offset][:3]

    def deliver(self, at_most: int = 1000) -> None:
        batch = [one for one in self.offsets if one >= self.fetched][:at_most]
        self.fetched = batch[-1] + 1 if len(batch) == at_most else self.end
        for offset in batch:
            if not self.drop(offset):
                self.continuity.take("p", offset, offset)

    async def read_all(self, start: int = 0) -> None:
        self.fetched = start
        self.continuity.prepare(["p"])
        self.continuity.begin({"p": start})
        for _ in range(200):
            self.deliver()
            self.continuity.look()
            for _ in range(5):
                await asyncio.sleep(0)
        self.continuity.end(["p"])


def once(*dropped: int) -> Any:
    """Drops these once each."""
    left = set(dropped)

    def drop(offset: int) -> bool:
        found = offset in left
        left.discard(offset)
        return found

    return drop


async def test_what_follows_on_is_handed_on_at_once():
    broker = Broker([0, 1, 2])
    await broker.read_all()
    assert (broker.handed_on, broker.looks, broker.seeks) == ([0, 1, 2], 0, [])


@pytest.mark.parametrize("dropped", [(0,), (1,), (3,), (4,), (0, 1, 2), (3, 4), (0, 2, 4), (0, 1, 2, 3, 4)])
async def test_what_the_consumer_dropped_is_read_again(dropped: tuple[int, ...]):
    """At the beginning, in the middle, at the end, where no later record shows the gap, and all of it."""
    broker = Broker([0, 1, 2, 3, 4], drop=once(*dropped))
    await broker.read_all()
    assert broker.handed_on == [0, 1, 2, 3, 4]
    assert broker.seeks


@pytest.mark.parametrize("offsets", [[5, 6], [0, 2, 4, 6, 8, 10, 12], [0, 7], [0, 1, 3]])
async def test_what_does_not_exist_is_not_waited_for(offsets: list[int]):
    """Markers of transactions, and what compaction and retention removed; the consumer need not seek."""
    broker = Broker(offsets, end=offsets[-1] + 4)
    await broker.read_all()
    assert (broker.handed_on, broker.seeks) == (offsets, [])
    assert broker.looks <= len(offsets) + 1


async def test_a_marker_at_the_end_is_looked_at_once():
    broker = Broker([0], end=2)
    await broker.read_all()
    assert (broker.handed_on, broker.looks) == ([0], 1)


async def test_known_markers_are_not_asked_for_again():
    broker = Broker(list(range(0, 6, 2)))
    await broker.read_all()
    assert broker.looks == 1


async def test_an_assignment_begins_where_the_broker_says():
    broker = Broker([0, 1, 2, 3], drop=once(2))
    await broker.read_all(start=2)
    assert broker.handed_on == [2, 3]


async def test_what_comes_before_the_begin_is_known_waits_for_it():
    handed_on: list[int] = []
    one = Continuity(Broker([]), handed_on.append)
    one.prepare(["p"])
    for offset in (4, 5, 6):
        one.take("p", offset, offset)
    assert handed_on == []
    one.begin({"p": 5})
    assert handed_on == [5, 6]


async def test_what_belongs_to_no_assignment_is_dropped():
    handed_on: list[int] = []
    one = Continuity(Broker([]), handed_on.append)
    one.take("p", 0, 0)
    one.prepare(["p"])
    one.begin({"p": 0})
    one.end(["p"])
    one.take("p", 0, 0)
    assert handed_on == []


async def test_a_record_is_handed_on_once():
    handed_on: list[int] = []
    one = Continuity(Broker([]), handed_on.append)
    one.prepare(["p"])
    one.begin({"p": 0})
    for offset in (0, 0, 1, 0, 1):
        one.take("p", offset, offset)
    assert handed_on == [0, 1]


async def test_a_broker_that_is_away_is_asked_again():
    broker = Broker([0, 1, 2], drop=once(1))
    broker.away = 3
    await broker.read_all()
    assert broker.handed_on == [0, 1, 2]


async def test_what_is_kept_back_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(continuity, "MAX_KEPT", 3)
    broker = Broker(list(range(20)), drop=once(1))
    await broker.read_all()
    assert broker.handed_on == list(range(20))


async def test_a_gap_of_an_assignment_that_has_ended_is_left_alone():
    broker = Broker([0, 1, 2], drop=once(0))
    broker.continuity.prepare(["p"])
    broker.continuity.begin({"p": 0})
    broker.deliver()
    broker.continuity.end(["p"])
    for _ in range(5):
        await asyncio.sleep(0)
    assert (broker.handed_on, broker.seeks) == ([], [])


async def test_it_looks_by_itself():
    broker = Broker([0], drop=once(0))
    await broker.continuity.start()
    broker.continuity.prepare(["p"])
    broker.continuity.begin({"p": 0})
    async with asyncio.timeout(10):
        while broker.handed_on != [0]:
            broker.deliver()
            await asyncio.sleep(0)
    await broker.continuity.stop()
    assert broker.continuity.task is not None
    assert broker.continuity.task.done()


@settings(max_examples=200, deadline=None)
@given(
    offsets=st.sets(st.integers(0, 40), min_size=1).map(sorted),
    tail=st.integers(0, 3),
    seed=st.integers(0, 2**32),
    rate=st.sampled_from([0.1, 0.5]),
    kept=st.sampled_from([2, 1000]),
)
def test_nothing_is_lost_repeated_or_out_of_order(offsets: list[int], tail: int, seed: int, rate: float, kept: int):
    """Any offsets, any of them dropped any number of times, in fetches of any size."""
    chance = random.Random(seed)

    async def read() -> list[int]:
        broker = Broker(offsets, end=offsets[-1] + 1 + tail, drop=lambda _offset: chance.random() < rate)
        broker.continuity.prepare(["p"])
        broker.continuity.begin({"p": 0})
        for _ in range(5000):
            broker.deliver(chance.randint(1, 5))
            broker.continuity.look()
            for _ in range(chance.randint(0, 5)):
                await asyncio.sleep(0)
            if broker.handed_on == offsets:
                break
        broker.continuity.end(["p"])
        return broker.handed_on

    before = continuity.MAX_KEPT
    continuity.MAX_KEPT = kept
    try:
        assert asyncio.run(read()) == offsets
    finally:
        continuity.MAX_KEPT = before

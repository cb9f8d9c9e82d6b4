"""What an identical batch waits for, and where: outside of the places of the worker once half of them are taken."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from evalx.agents.followers import Followers
from evalx.agents.front import Front
from evalx.agents.intake import Intake
from evalx.agents.lanes import Lanes
from evalx.agents.pipeline import Pipeline
from evalx.agents.pulse import Pulse
from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.cache.claims import Claims, Known
from evalx.cache.holding import Keeper
from evalx.cache.store import Store
from evalx.cache.values import pack
from evalx.engine import Engine
from evalx.languages import Registry
from evalx.settings import Settings
from evalx.testing import FakeEvent, FakeFlow, FakePublisher, FakeSandbox, Journal

REGISTRY, SETTINGS = Registry.load(), Settings()
PLACES = 4


def lane_of(partition: Any) -> str:
    return SETTINGS.lane_of[partition.partition]


def make_lanes(flow: FakeFlow, max_count: int = 500) -> Lanes[Record]:
    return Lanes((lane.name for lane in SETTINGS.lanes), lane_of, flow, max_count=max_count, max_bytes=1 << 20)


class MemoryClaims(Claims):
    """Claims that know what this process has stored, as Redis would."""

    def __init__(self, store: Store) -> None:
        super().__init__(Keeper(store.link), prefix="unit", ttl_s=60)
        self.looked: list[str] = []

    async def answer_known(self, asked: Any, at_hand: Any = None) -> list[Known | None]:
        self.looked += [one.id for one in asked]
        values = [at_hand(one.result) for one in asked]
        return [None if v is None else Known(1, pack(v, a.result), False) for v, a in zip(values, asked, strict=True)]

    async def forget(self, asked: Any) -> None: ...


class Rig:
    """A worker without its edges; no program ends before the gate is open."""

    def __init__(self) -> None:
        self.journal: Journal = []
        self.publisher = FakePublisher(self.journal)
        self.sequencer: Sequencer[Record] = Sequencer()
        self.lanes = make_lanes(FakeFlow())
        self.store = Store(None, timeout_ms=50, ttl_s=60)
        self.claims = MemoryClaims(self.store)
        self.gate = asyncio.Event()
        self.sandbox = FakeSandbox(gate=self.gate)
        self.engine = Engine(REGISTRY, self.sandbox, self.store)
        self.followers = Followers(self.lanes, PLACES)
        parts: Any = (self.lanes, self.sequencer, self.engine, self.claims, self.publisher)
        self.pipeline = Pipeline(*parts, "host:1", followers=self.followers)
        self.front = Front(*parts, self.pipeline.flying, self.store, Pulse(), "host:1")
        self.followers.look_again = self.front.put
        self.intake = Intake(REGISTRY.rules(SETTINGS), self.front, self.sequencer, lane_of)
        self.tasks = [asyncio.create_task(self.front.run())]
        self.tasks += [asyncio.create_task(self.pipeline.run_place()) for _ in range(PLACES)]
        self.events: list[FakeEvent] = []

    def send(self, name: str, code: str, partition: int = 4) -> FakeEvent:
        tests = [{"stdin": "1\n", "expected_output": "1\n"}]
        value = msgspec.json.encode({"id": name, "language": "python", "code": code, "tests": tests})
        event = FakeEvent(value, partition=partition, offset=len(self.events), journal=self.journal)
        self.events.append(event)
        self.intake.take(event)
        return event

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.front.stop()


@pytest.fixture
async def rig() -> Any:
    rig = Rig()
    yield rig
    await rig.stop()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.001)


async def test_others_are_judged_while_many_wait_for_the_same_batch(rig: Rig):
    """Without followers the identical ones would have all places, and the other would not begin before they end."""
    for number in range(20):
        rig.send(f"same-{number}", "same")
    rig.send("other", "other")
    await until(lambda: rig.sandbox.runs == 2)
    rig.gate.set()
    await until(lambda: all(event.acked for event in rig.events))
    assert rig.sandbox.runs == 2
    sources = sorted(result.source for result in rig.publisher.results)
    assert sources == ["executed"] * 2 + ["joined"] + ["result_cache"] * 18
    assert rig.claims.looked.count("same-19") == 2


def a_record(batch: str = "b", partition: int = 4) -> Record:
    event = FakeEvent(b"{}", partition=partition, offset=0, journal=[])
    record = Record(event, lane_of(event.message.tp))
    record.batch = batch
    return record


def test_who_follows_counts_in_its_lane_and_is_looked_up_again():
    again: list[Record] = []
    flow = FakeFlow()
    followers = Followers(lanes := make_lanes(flow, max_count=2), PLACES)
    followers.look_again = again.append
    leader, one, other = a_record(), a_record(), a_record()
    assert [followers.follow(record, PLACES - 1) for record in (leader, one, other)] == [False, True, True]
    assert lanes.waiting()["normal"] == 2
    assert lanes.held_back() == {one.partition}
    followers.end(leader)
    assert again == [one, other]
    assert lanes.waiting()["normal"] == 0
    assert not lanes.held_back()
    assert not followers.follow(a_record(), PLACES - 1)
    assert not followers.follow(one, PLACES - 1), "nobody follows twice"


def test_what_was_lost_with_its_partition_is_not_looked_up():
    again: list[Record] = []
    followers = Followers(lanes := make_lanes(FakeFlow()), PLACES)
    followers.look_again = again.append
    leader, lost, kept = a_record(), a_record(partition=4), a_record(partition=5)
    assert [followers.follow(record, PLACES - 1) for record in (leader, lost, kept)] == [False, True, True]
    lanes.drop([lost.partition])
    followers.end(leader)
    assert again == [kept]


@pytest.mark.parametrize(("batch", "in_flight", "is_on"), [("", 3, True), ("b", 1, True), ("b", 3, False)])
def test_nobody_follows_without_need(batch: str, in_flight: int, is_on: bool):
    followers = Followers(make_lanes(FakeFlow()), PLACES)
    followers.look_again = SimpleNamespace(append=print).append if is_on else None
    leader = a_record(batch)
    assert not followers.follow(leader, in_flight)
    assert not followers.follow(a_record(batch), in_flight)
    followers.end(leader)

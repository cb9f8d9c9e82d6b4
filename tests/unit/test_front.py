"""What is known is answered before it waits for a place; Redis is a Python function here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from evalx.agents import front as front_module
from evalx.agents.front import LOOK_RECORDS, Front
from evalx.agents.intake import Intake
from evalx.agents.lanes import Lanes
from evalx.agents.pipeline import Pipeline
from evalx.agents.pulse import Pulse
from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.cache.claims import Asked, Claims, Known
from evalx.cache.holding import Keeper
from evalx.cache.rules import Policy
from evalx.cache.store import Store
from evalx.cache.values import pack
from evalx.engine import Engine
from evalx.errors import JudgeFaultError
from evalx.languages import Registry
from evalx.messages import Result
from evalx.settings import Settings
from evalx.testing import FakeEvent, FakeFlow, FakePublisher, FakeSandbox, Journal
from evalx.verdicts import Verdict

REGISTRY = Registry.load()
SETTINGS = Settings()


def message(submission_id: str = "s-1", **fields: Any) -> bytes:
    tests = [{"stdin": text, "expected_output": text} for text in ("1\n", "2\n")]
    return msgspec.json.encode({"id": submission_id, "language": "python", "code": "x", "tests": tests, **fields})


class KnowingClaims(Claims):
    """Claims that know the answers to batches, as Redis would."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(keeper, prefix="unit", ttl_s=60)
        self.answers: dict[str, bytes] = {}
        self.looks: list[list[str]] = []
        self.forgotten: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.crash = False

    async def answer_known(self, asked: Sequence[Asked], at_hand: Any = None) -> list[Known | None]:
        self.looks.append([one.id for one in asked])
        await self.gate.wait()
        if self.crash:
            raise ZeroDivisionError("a defect")
        packed = [self.answers.get(one.result) for one in asked]
        return [None if value is None else Known(1, value, False) for value in packed]

    async def forget(self, asked: Asked) -> None:
        self.forgotten.append(asked.id)


class Rig:
    """A worker without its edges. ``places`` is how many records are judged at a time."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.journal: Journal = []
        self.publisher = FakePublisher(self.journal)
        self.sequencer: Sequencer[Record] = Sequencer()
        self.lanes: Lanes[Record] = Lanes(
            (lane.name for lane in SETTINGS.lanes), self._lane_of, FakeFlow(), max_count=500, max_bytes=1 << 20
        )
        self.store = Store(None, timeout_ms=50, ttl_s=60)
        self.claims = KnowingClaims(Keeper(self.store.link))
        self.sandbox = FakeSandbox()
        self.engine = Engine(REGISTRY, self.sandbox, self.store, policy=policy)
        parts: Any = (self.lanes, self.sequencer, self.engine, self.claims, self.publisher)
        self.pipeline = Pipeline(*parts, "host:1")
        self.front = Front(*parts, self.pipeline.flying, self.store, Pulse(), "host:1")
        self.intake = Intake(REGISTRY.rules(SETTINGS), self.front, self.sequencer, self._lane_of)
        self.tasks: list[asyncio.Task[None]] = []
        self.offset = 0

    def start(self, places: int = 1) -> None:
        self.tasks.append(asyncio.create_task(self.front.run()))
        self.tasks += [asyncio.create_task(self.pipeline.run_place()) for _ in range(places)]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.front.stop()

    def send(self, value: bytes, partition: int = 4) -> FakeEvent:
        event = FakeEvent(value, partition=partition, offset=self.offset, journal=self.journal)
        self.offset += 1
        self.intake.take(event)
        return event

    async def learn(self, **fields: Any) -> None:
        """Judge a batch, so that its answer is known."""
        event = self.send(message("first", **fields))
        await until(lambda: event.acked)
        self.claims.answers = {
            key: pack(value, key) for key, value in self.store.memory._values.items() if ":result:" in key
        }

    @staticmethod
    def _lane_of(partition: Any) -> str:
        return SETTINGS.lane_of[partition.partition]


@pytest.fixture
async def rig() -> Any:
    rig = Rig()
    rig.start()
    await rig.learn()
    yield rig
    await rig.stop()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.001)


async def test_what_is_known_is_answered_without_a_place(rig: Rig):
    for task in rig.tasks[1:]:
        task.cancel()
    event = rig.send(message("again"))
    await until(lambda: event.acked)
    result = rig.publisher.results[-1]
    assert (result.id, result.source, result.verdict) == ("again", "result_cache", Verdict.AC)
    assert [test.cached for test in result.tests] == [True, True]
    assert rig.sandbox.runs == 1
    assert rig.journal[-2:] == [("publish", "again"), ("ack", 1)]
    assert rig.pipeline.in_flight == 0
    assert rig.lanes.waiting()["normal"] == 0


async def test_what_came_since_the_last_look_shares_one(rig: Rig):
    rig.claims.gate.clear()
    first = rig.send(message("a"))
    await until(lambda: len(rig.claims.looks) == 2)
    later = [rig.send(message(f"b{number}")) for number in range(10)]
    rig.claims.gate.set()
    await until(lambda: all(event.acked for event in (first, *later)))
    assert rig.claims.looks[1:] == [["a"], [f"b{number}" for number in range(10)]]


async def test_the_highest_lane_is_looked_up_first_and_the_lowest_too(rig: Rig):
    rig.claims.gate.clear()
    rig.send(message("gate"))
    await until(lambda: len(rig.claims.looks) == 2)
    events = [rig.send(message(f"low{number}"), partition=8) for number in range(100)]
    events += [rig.send(message(f"high{number}"), partition=0) for number in range(100)]
    rig.claims.gate.set()
    await until(lambda: all(event.acked for event in events))
    look = rig.claims.looks[2]
    assert len(look) == LOOK_RECORDS
    assert [name.startswith("high") for name in look].count(True) == LOOK_RECORDS - LOOK_RECORDS // 10


@pytest.mark.parametrize("mode", ["refresh", "bypass"])
async def test_who_asks_for_a_run_is_not_looked_up(rig: Rig, mode: str):
    event = rig.send(message("again", cache=mode))
    await until(lambda: event.acked)
    assert len(rig.claims.looks) == 1
    assert rig.sandbox.runs == 2


async def test_without_the_result_cache_nothing_is_looked_up():
    rig = Rig(Policy(results=False))
    rig.start()
    event = rig.send(message())
    await until(lambda: event.acked)
    assert rig.claims.looks == []
    await rig.stop()


async def test_what_is_not_known_is_judged(rig: Rig):
    event = rig.send(message("other", code="y"))
    await until(lambda: event.acked)
    assert rig.publisher.results[-1].source == "executed"


async def test_a_defect_in_a_look_is_no_failure(rig: Rig):
    rig.claims.crash = True
    event = rig.send(message("again"))
    await until(lambda: event.acked)
    assert rig.publisher.results[-1].verdict is Verdict.AC


async def test_a_damaged_answer_is_forgotten_and_the_batch_judged(rig: Rig):
    (key,) = rig.claims.answers
    for damaged in (b"garbage", pack(b"\xc1", key), pack(rig.store.memory.get(key) or b"", "another key")):
        rig.claims.answers[key] = damaged
        event = rig.send(message(f"again{len(damaged)}"))
        await until(lambda event=event: event.acked)
        assert rig.publisher.results[-1].verdict is Verdict.AC
    assert len(rig.claims.forgotten) == 3


async def test_a_lost_partition_is_not_answered(rig: Rig):
    rig.publisher.reachable = False
    event = rig.send(message("again"))
    await until(lambda: rig.pipeline.in_flight)
    rig.sequencer.revoke([event.message.tp])
    await until(lambda: not rig.pipeline.in_flight)
    assert not event.acked
    assert [result.id for result in rig.publisher.results] == ["first"]


async def test_a_partition_that_is_lost_during_the_look_is_not_answered(rig: Rig):
    rig.claims.gate.clear()
    event = rig.send(message("again"))
    await until(lambda: len(rig.claims.looks) == 2)
    assert len(rig.lanes.drop([event.message.tp])) == 1
    rig.claims.gate.set()
    other = rig.send(message("other"), partition=0)
    await until(lambda: other.acked)
    assert not event.acked
    assert rig.lanes.waiting()["normal"] == 0


async def test_a_shutdown_looks_up_nothing_more(rig: Rig):
    rig.pipeline.stop_taking()
    event = rig.send(message("again"))
    await until(lambda: rig.lanes._lanes["normal"].items or not rig.lanes.waiting()["normal"])
    assert await rig.pipeline.wait_idle(5)
    assert not event.acked
    assert len(rig.claims.looks) == 1


async def test_a_result_that_cannot_be_encoded_takes_the_usual_way(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    encode = rig.publisher.encode

    def fail_once(record: Any, result: Result) -> Result:
        monkeypatch.setattr(rig.publisher, "encode", encode)
        raise JudgeFaultError("internal_error", "the result could not be encoded")

    monkeypatch.setattr(rig.publisher, "encode", fail_once)
    event = rig.send(message("again"))
    await until(lambda: event.acked)
    assert rig.publisher.results[-1].verdict is Verdict.AC


async def test_a_defect_in_publishing_ends_the_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    def crash(*args: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(front_module, "acknowledge", crash)
    rig.send(message("again"))
    await until(lambda: rig.front.failure is not None)
    assert rig.pipeline.in_flight == 0


async def test_a_hit_is_kept_at_hand_for_when_redis_is_away(rig: Rig):
    (key,) = rig.claims.answers
    rig.store.memory.put(key, b"")
    event = rig.send(message("again"))
    await until(lambda: event.acked)
    assert rig.store.memory.get(key)

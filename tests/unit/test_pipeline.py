"""The way of one record, without Kafka: what is published, in which order, and when it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from evalx import engine as engine_module
from evalx.agents.intake import Intake
from evalx.agents.lanes import Lanes
from evalx.agents.pipeline import Pipeline
from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.cache.store import Store
from evalx.engine import Engine
from evalx.errors import SandboxFaultError
from evalx.languages import Registry
from evalx.settings import Settings
from evalx.testing import FakeEvent, FakeFlow, FakePublisher, FakeSandbox, Journal, MemoryCache
from evalx.verdicts import Verdict

SETTINGS = Settings()
REGISTRY = Registry.load()


def message(submission_id: str = "s-1", **fields: Any) -> bytes:
    tests = [{"stdin": "1", "expected_output": "1"}]
    document = {"id": submission_id, "language": "python", "code": "print(input())", "tests": tests, **fields}
    return msgspec.json.encode(document)


class Rig:
    """A worker without its edges. All parts share one journal."""

    def __init__(self, sandbox: FakeSandbox | None = None) -> None:
        self.journal: Journal = []
        self.sandbox = sandbox if sandbox is not None else FakeSandbox()
        self.publisher = FakePublisher(self.journal)
        self.sequencer: Sequencer[Record] = Sequencer()
        self.lanes: Lanes[Record] = Lanes(
            (lane.name for lane in SETTINGS.lanes), self._lane_of, FakeFlow(), max_count=100, max_bytes=1 << 20
        )
        self.store = Store(None, timeout_ms=50, ttl_s=60)
        self.engine = Engine(REGISTRY, self.sandbox, MemoryCache(self.journal))
        self.pipeline = Pipeline(self.lanes, self.sequencer, self.engine, self.store, self.publisher, "host:1")  # type: ignore[arg-type]
        self.intake = Intake(REGISTRY.rules(SETTINGS), self.lanes, self.sequencer, self._lane_of)
        self.offset = 0

    def send(self, value: bytes | None, partition: int = 4, **fields: Any) -> FakeEvent:
        event = FakeEvent(value, partition=partition, offset=self.offset, journal=self.journal, **fields)
        self.offset += 1
        self.intake.take(event)
        return event

    async def step(self) -> None:
        """One record from its lane to its end."""
        await self.pipeline.process(await self.lanes.take())

    def names(self) -> list[str]:
        return [name for name, _ in self.journal]

    @staticmethod
    def _lane_of(partition: Any) -> str:
        return SETTINGS.lane_of[partition.partition]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RETRY_PAUSES_S", (0.0, 0.0))


@pytest.fixture
async def running() -> AsyncIterator[Rig]:
    """A rig with two places at work."""
    rig = Rig()
    places = [asyncio.create_task(rig.pipeline.run_place()) for _ in range(2)]
    yield rig
    for place in places:
        place.cancel()
    await asyncio.gather(*places, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.001)


async def test_publish_before_store_before_ack():
    rig = Rig()
    event = rig.send(message())
    await rig.step()
    assert rig.names() == ["publish", "store", "ack"]
    assert event.acked


async def test_a_result_says_all_that_the_contract_promises():
    rig = Rig()
    rig.send(message(metadata={"problem": "aplusb"}), partition=0)
    await rig.step()
    (result,) = rig.publisher.results
    assert (result.id, result.status, result.verdict) == ("s-1", "judged", Verdict.AC)
    assert (result.language, result.version, result.toolchain) == ("python", "3.13", "sha256:sandbox-python")
    assert (result.lane, result.attempt, result.worker, result.source) == ("high", 1, "host:1", "executed")
    assert result.metadata == {"problem": "aplusb"}
    assert result.queued_ms >= 0
    assert result.judged_ms > 0
    assert result.error is None


async def test_a_repeat_has_the_same_verdicts_and_a_higher_attempt():
    rig = Rig()
    for _ in range(2):
        rig.send(message())
        await rig.step()
    first, second = rig.publisher.results
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.source == "result_cache"
    assert [test.verdict for test in first.tests] == [test.verdict for test in second.tests]


@pytest.mark.parametrize(
    ("value", "code", "result_id"),
    [
        (b"", "empty_message", None),
        (None, "empty_message", None),
        (b"{", "not_json", None),
        (message(language="cobol"), "unknown_language", "s-1"),
        (message(colour="red"), "unknown_field", "s-1"),
    ],
)
async def test_what_cannot_be_judged_is_a_dead_letter_and_if_possible_a_result(
    value: bytes | None, code: str, result_id: str | None
):
    rig = Rig()
    event = rig.send(value)
    await rig.step()
    ((record, error),) = rig.publisher.dead_letters
    assert (record.value, record.key, error.code) == (value, b"key", code)
    assert [result.id for result in rig.publisher.results] == ([result_id] if result_id else [])
    for result in rig.publisher.results:
        assert (result.status, result.verdict, result.tests, result.source) == ("rejected", None, (), None)
        assert result.error is not None
        assert result.error.code == code
    assert rig.names()[-1] == "ack"
    assert event.acked
    assert rig.sandbox.jobs == []


async def test_one_id_with_two_contents_is_rejected_the_second_time():
    rig = Rig()
    rig.send(message(code="print(1)"))
    rig.send(message(code="print(2)"))
    await rig.step()
    await rig.step()
    assert [result.status for result in rig.publisher.results] == ["judged", "rejected"]
    assert [error.code for _, error in rig.publisher.dead_letters] == ["conflict"]


async def test_our_fault_is_answered_after_the_retries():
    faults = [SandboxFaultError(message="container died") for _ in range(3)]
    rig = Rig(FakeSandbox(faults=faults))
    event = rig.send(message(metadata={"a": "b"}))
    await rig.step()
    (result,) = rig.publisher.results
    assert (result.status, result.verdict, result.tests) == ("judge_error", Verdict.JE, ())
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("sandbox_fault", "container died")
    assert (result.language, result.metadata) == ("python", {"a": "b"})
    assert event.acked
    assert "store" not in rig.names()


async def test_a_crash_of_the_engine_is_answered_and_the_worker_goes_on(running: Rig, monkeypatch: pytest.MonkeyPatch):
    async def crash(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(running.engine, "judge", crash)
        first = running.send(message("s-1"))
        await until(lambda: first.acked)
    second = running.send(message("s-2"))
    await until(lambda: second.acked)
    broken, fine = running.publisher.results
    assert (broken.status, broken.error and broken.error.code) == ("judge_error", "internal_error")
    assert fine.verdict is Verdict.AC


async def test_a_store_that_fails_does_not_keep_the_record(monkeypatch: pytest.MonkeyPatch):
    async def crash(*args: Any) -> None:
        raise OSError("disk")

    rig = Rig()
    monkeypatch.setattr(rig.engine, "remember", crash)
    event = rig.send(message())
    await rig.step()
    assert event.acked


async def test_what_is_published_late_after_the_partition_was_lost_is_not_acknowledged():
    rig = Rig()
    event = rig.send(message())
    record = await rig.lanes.take()
    rig.sequencer.revoke([record.partition])
    await rig.pipeline.process(record)
    assert len(rig.publisher.results) == 1
    assert not event.acked


async def test_what_the_broker_does_not_take_is_given_back_when_the_partition_is_lost():
    rig = Rig()
    rig.publisher.reachable = False
    event = rig.send(message())
    work = asyncio.create_task(rig.step())
    await asyncio.sleep(0.02)
    assert not work.done()
    rig.sequencer.revoke([event.message.tp])
    await asyncio.wait_for(work, 5)
    assert rig.journal == []
    assert not event.acked


async def test_what_the_broker_takes_later_is_published_and_acknowledged_once():
    rig = Rig()
    rig.publisher.reachable = False
    event = rig.send(message())
    work = asyncio.create_task(rig.step())
    await asyncio.sleep(0.02)
    rig.publisher.reachable = True
    await asyncio.wait_for(work, 5)
    assert rig.names() == ["publish", "store", "ack"]
    assert event.acked


async def test_acknowledgements_are_in_the_order_of_the_partition():
    gate = asyncio.Event()
    rig = Rig(FakeSandbox(gate=gate))
    slow, rejected, other = rig.send(message("s-1")), rig.send(b"{"), rig.send(b"{", partition=5)
    places = [asyncio.create_task(rig.pipeline.run_place()) for _ in range(3)]
    await until(lambda: len(rig.publisher.dead_letters) == 2)
    await asyncio.sleep(0.01)
    assert other.acked, "another partition does not wait"
    assert not rejected.acked, "the record before it is not finished"
    gate.set()
    await until(lambda: rejected.acked)
    assert [offset for name, offset in rig.journal if name == "ack"] == [2, 0, 1]
    assert slow.acked
    for place in places:
        place.cancel()
    await asyncio.gather(*places, return_exceptions=True)


async def test_a_record_that_is_read_twice_in_one_assignment_is_judged_once():
    rig = Rig()
    event = rig.send(message())
    rig.intake.take(event)
    assert rig.lanes.waiting()["normal"] == 1


async def test_after_stop_nothing_new_is_started_and_idle_is_reached(running: Rig):
    first = running.send(message("s-1"))
    await until(lambda: first.acked)
    running.pipeline.stop_taking()
    second = running.send(message("s-2"))
    third = running.send(message("s-3"))
    assert await running.pipeline.wait_idle(5)
    await asyncio.sleep(0.02)
    assert not second.acked
    assert not third.acked
    assert len(running.publisher.results) == 1


async def test_wait_idle_gives_up_on_time():
    rig = Rig(FakeSandbox(gate=asyncio.Event()))
    rig.send(message())
    place = asyncio.create_task(rig.pipeline.run_place())
    await until(lambda: rig.sandbox.jobs)
    assert not await rig.pipeline.wait_idle(0.01)
    assert rig.pipeline.in_flight == 1
    place.cancel()
    await asyncio.gather(place, return_exceptions=True)
    assert rig.pipeline.in_flight == 0


async def test_a_defect_in_decoding_loses_no_record(monkeypatch: pytest.MonkeyPatch):
    def crash(*args: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("evalx.agents.intake.decode_submission", crash)
    rig = Rig()
    event = rig.send(message())
    await rig.step()
    assert len(rig.publisher.dead_letters) == 1
    assert [result.status for result in rig.publisher.results] == ["rejected"]
    assert event.acked


async def test_a_defect_after_judging_is_seen_and_the_record_not_acknowledged(
    running: Rig, monkeypatch: pytest.MonkeyPatch
):
    async def crash(*args: Any) -> bool:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(running.publisher, "result", crash)
    event = running.send(message())
    await until(lambda: running.pipeline.failure is not None)
    assert isinstance(running.pipeline.failure, ZeroDivisionError)
    assert not event.acked
    assert await running.pipeline.wait_idle(1)

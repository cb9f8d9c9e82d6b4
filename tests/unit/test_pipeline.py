"""The way of one record, without Kafka: what is published, in which order, and when it is acknowledged."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pipeline_scene import Rig, message, until

from evalx import engine as engine_module
from evalx.agents.records import Record
from evalx.errors import SandboxFaultError
from evalx.testing import FakeEvent, FakeSandbox
from evalx.verdicts import Verdict


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture
async def running() -> AsyncIterator[Rig]:
    """A rig with two places at work."""
    rig = Rig()
    places = [asyncio.create_task(rig.pipeline.run_place()) for _ in range(2)]
    yield rig
    for place in places:
        place.cancel()
    await asyncio.gather(*places, return_exceptions=True)


async def test_publish_before_store_before_ack():
    rig = Rig()
    event = rig.send(message())
    await rig.step()
    assert rig.names() == ["publish", "store", "store", "ack"], "the tests, then the batch"
    assert event.acked


async def test_a_finished_record_is_gone_at_once():
    """In a cycle it would stay, with the bytes of the submission, until the collector comes: perhaps for minutes."""
    rig = Rig()
    gc.collect()
    gc.disable()
    try:
        before = _records()
        for number in range(3):
            rig.send(message(f"s-{number}"))
            await rig.step()
        assert _records() == before
    finally:
        gc.enable()


def _records() -> int:
    return sum(isinstance(one, Record) for one in gc.get_objects())


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
    faults = [SandboxFaultError(message="container died") for _ in range(4)]
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


async def test_what_is_judged_after_the_partition_was_lost_is_left_to_the_next_owner():
    """Nothing is published twice; and if the partition comes back here, nothing is judged twice either."""
    gate = asyncio.Event()
    rig = Rig(FakeSandbox(gate=gate))
    event = rig.send(message(cache="bypass"))
    work = asyncio.create_task(rig.step())
    await until(lambda: rig.sandbox.jobs)
    rig.sequencer.revoke([event.message.tp])
    again = FakeEvent(message(cache="bypass"), journal=rig.journal)
    rig.intake.take(again)
    next_work = asyncio.create_task(rig.step())
    gate.set()
    await asyncio.wait_for(asyncio.gather(work, next_work), 5)
    (result,) = rig.publisher.results
    assert (result.verdict, result.attempt) == (Verdict.AC, 2)
    assert (event.acked, again.acked) == (False, True)
    assert len(rig.sandbox.jobs) == 1


async def test_who_waits_for_others_gives_up_when_the_partition_is_lost():
    """Else a worker's places would fill with records that it has lost, in a storm of rebalances."""
    gate = asyncio.Event()
    rig = Rig(FakeSandbox(gate=gate))
    rig.send(message())
    waiting = rig.send(message(), partition=5)
    places = [asyncio.create_task(rig.pipeline.run_place()) for _ in range(2)]
    await until(lambda: rig.pipeline.in_flight == 2 and rig.sandbox.jobs)
    rig.sequencer.revoke([waiting.message.tp])
    await until(lambda: rig.pipeline.in_flight == 1)
    assert not await rig.pipeline.wait_idle(0.01), "the first one is being judged"
    gate.set()
    assert await rig.pipeline.wait_idle(5)
    assert len(rig.publisher.results) == 1
    assert not waiting.acked
    for place in places:
        place.cancel()
    await asyncio.gather(*places, return_exceptions=True)


async def test_who_waits_for_others_keeps_no_shutdown_waiting():
    rig = Rig()
    async with rig.claims.hold("s-1", b"by another partition"):
        rig.send(message())
        place = asyncio.create_task(rig.pipeline.run_place())
        await until(lambda: rig.pipeline.in_flight == 1)
        assert await rig.pipeline.wait_idle(1)
        place.cancel()
        await asyncio.gather(place, return_exceptions=True)


async def test_what_was_queued_when_the_partition_was_lost_is_not_judged():
    rig = Rig()
    event = rig.send(message())
    record = await rig.lanes.take()
    rig.sequencer.revoke([record.partition])
    await rig.pipeline.process(record)
    assert rig.journal == []
    assert rig.sandbox.jobs == []
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
    assert rig.names() == ["publish", "store", "store", "ack"], "the tests, then the batch"
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


@pytest.mark.parametrize("unencodable", [{"judged"}, {"judged", "judge_error"}])
async def test_a_result_that_cannot_be_encoded_is_one_dead_letter(unencodable: set[str]):
    """Else its record would never be finished, and restart every worker that gets it."""
    rig = Rig()
    rig.publisher.unencodable = unencodable
    event = rig.send(message())
    await rig.step()
    assert [error.code for _, error in rig.publisher.dead_letters] == ["internal_error"]
    assert [result.status for result in rig.publisher.results] == (
        [] if "judge_error" in unencodable else ["judge_error"]
    )
    assert event.acked


async def test_a_rejection_whose_result_cannot_be_built_is_one_dead_letter(monkeypatch: pytest.MonkeyPatch):
    def crash(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("evalx.agents.pipeline.rejected_result", crash)
    rig = Rig()
    event = rig.send(message(colour="red"))
    await rig.step()
    assert [error.code for _, error in rig.publisher.dead_letters] == ["unknown_field"]
    assert rig.publisher.results == []
    assert event.acked


async def test_a_record_without_a_timestamp_is_judged():
    rig = Rig()
    event = rig.send(message())
    event.message.timestamp = None
    await rig.step()
    assert event.acked
    assert rig.publisher.results[0].queued_ms == 0


async def test_a_repeat_of_what_is_not_cached_gets_the_same_answer():
    rig = Rig()
    for _ in range(2):
        rig.send(message(cache="bypass"))
        await rig.step()
    first, second = rig.publisher.results
    assert [first.source, second.source] == ["executed", "result_cache"]
    assert [first.attempt, second.attempt] == [1, 2]
    assert len(rig.sandbox.jobs) == 1


async def test_a_judge_error_is_judged_again_when_it_is_sent_again():
    rig = Rig(FakeSandbox(faults=[SandboxFaultError() for _ in range(4)]))
    for _ in range(2):
        rig.send(message())
        await rig.step()
    assert [result.status for result in rig.publisher.results] == ["judge_error", "judged"]


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

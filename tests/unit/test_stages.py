"""The stages of a submission add up to the whole, whatever way it took, and are in its one line of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import LogCapture

from evalx import engine as engine_module
from evalx import stages
from evalx.agents import timing
from evalx.agents.front import Front
from evalx.agents.gauges import Gauges, forget_lag, tell_lag
from evalx.agents.intake import Intake
from evalx.agents.lag import PartitionLag
from evalx.agents.lanes import Lanes
from evalx.agents.pipeline import Pipeline
from evalx.agents.pulse import Pulse
from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.cache.claims import Claims
from evalx.cache.holding import Keeper
from evalx.cache.store import Store
from evalx.engine import Engine
from evalx.errors import SandboxFaultError
from evalx.languages import Registry
from evalx.metrics import REGISTRY
from evalx.settings import Settings
from evalx.stages import STAGES, Timeline
from evalx.testing import FakeEvent, FakeFlow, FakePublisher, FakeSandbox

SETTINGS = Settings()
LANGUAGES = Registry.load()


def value(name: str, registry: CollectorRegistry = REGISTRY, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


class Sums:
    """The histograms' sums and counts, from when it was made on."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> dict[str, float]:
        found = {stage: value("evalx_stage_seconds_sum", stage=stage) for stage in STAGES}
        found |= {f"{stage}/n": value("evalx_stage_seconds_count", stage=stage) for stage in STAGES}
        lanes = [lane.name for lane in SETTINGS.lanes]
        found["whole"] = sum(value("evalx_submission_seconds_sum", lane=lane) for lane in lanes)
        return found

    def grown(self) -> dict[str, float]:
        return {name: now - self._before[name] for name, now in self._now().items()}

    def counts(self) -> dict[str, int]:
        """How many submissions had each stage, without those that none had."""
        grown = self.grown()
        return {stage: int(grown[f"{stage}/n"]) for stage in STAGES if grown[f"{stage}/n"]}

    def add_up(self) -> bool:
        grown = self.grown()
        return grown["whole"] > 0 and sum(grown[stage] for stage in STAGES) == pytest.approx(grown["whole"])


class Rig:
    """A worker without its edges; without Redis, so what is known is in memory."""

    def __init__(self, sandbox: FakeSandbox | None = None) -> None:
        self.sandbox = sandbox or FakeSandbox()
        self.sequencer: Sequencer[Record] = Sequencer()
        names = [lane.name for lane in SETTINGS.lanes]
        self.lanes: Lanes[Record] = Lanes(names, self._lane_of, FakeFlow(), max_count=100, max_bytes=1 << 20)
        store = Store(None, timeout_ms=50, ttl_s=60)
        engine = Engine(LANGUAGES, self.sandbox, store)
        claims = Claims(Keeper(store.link), prefix="stages", ttl_s=60)
        parts: Any = (self.lanes, self.sequencer, engine, claims, FakePublisher())
        self.pipeline = Pipeline(*parts, "host:1")
        self.front = Front(*parts, self.pipeline.flying, store, Pulse(), "host:1")
        self.intake = Intake(LANGUAGES.rules(SETTINGS), self.front, self.sequencer, self._lane_of)
        self.tasks: list[asyncio.Task[None]] = []
        self._offset = 0

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.front.run()), asyncio.create_task(self.pipeline.run_place())]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.front.stop()

    def send(self, document: bytes, *, partition: int = 4, age_s: float = 0.0) -> FakeEvent:
        event = FakeEvent(document, partition=partition, offset=self._offset)
        event.message.timestamp -= age_s
        self._offset += 1
        self.intake.take(event)
        return event

    async def judge(self, document: bytes, *, age_s: float = 0.0) -> None:
        event = self.send(document, age_s=age_s)
        async with asyncio.timeout(10):
            while not event.acked:  # noqa: ASYNC110  an event of a test
                await asyncio.sleep(0)

    @staticmethod
    def _lane_of(partition: Any) -> str:
        return SETTINGS.lane_of[partition.partition]


def message(submission_id: str, language: str = "c", **fields: Any) -> bytes:
    tests = [{"stdin": "1\n", "expected_output": "1\n"}]
    return msgspec.json.encode({"id": submission_id, "language": language, "code": "x", "tests": tests, **fields})


@pytest.fixture
async def make_rig() -> AsyncIterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(sandbox: FakeSandbox | None = None) -> Rig:
        made.append(Rig(sandbox))
        made[-1].start()
        return made[-1]

    yield make
    for rig in made:
        await rig.stop()


# --- the timeline


def test_each_moment_ends_a_stage_and_begins_the_next():
    timeline = Timeline(time.time() - 5)
    for stage, after in (("queued", 1), ("dedupe", 2), ("acquire", 4), ("dedupe", 7), ("publish", 7), ("ack", 12)):
        timeline.mark(stage, timeline.sent + after)  # type: ignore[arg-type]
    assert timeline.seconds() == pytest.approx({"queued": 1, "dedupe": 4, "acquire": 2, "publish": 0, "ack": 5})
    assert timeline.total_s == pytest.approx(12)


def test_a_sender_whose_clock_is_ahead_sent_it_now():
    timeline = Timeline(time.time() + 3600)
    timeline.mark("queued")
    assert 0 <= timeline.total_s < 3600
    assert timeline.sent_at <= time.time()


def test_nothing_is_followed_outside_of_a_worker():
    stages.follow(None)
    stages.mark("run")


# --- the way of a record


async def test_a_batch_that_is_judged_has_all_stages(make_rig: Callable[..., Rig]):
    rig, sums = make_rig(), Sums()
    await rig.judge(message("s-1"), age_s=100.0)
    assert sums.counts() == dict.fromkeys(STAGES, 1)
    assert sums.add_up()
    assert sums.grown()["queued"] >= 100.0


async def test_one_that_is_known_needs_no_container(make_rig: Callable[..., Rig]):
    rig = make_rig()
    await rig.judge(message("s-1"))
    sums = Sums()
    await rig.judge(message("s-2"))
    assert sums.counts() == dict.fromkeys(("queued", "dedupe", "publish", "ack"), 1)
    assert sums.add_up()


async def test_a_rejected_one_is_queued_published_and_acknowledged(make_rig: Callable[..., Rig]):
    rig, sums = make_rig(), Sums()
    await rig.judge(b"no JSON")
    assert sums.counts() == dict.fromkeys(("queued", "publish", "ack"), 1)
    assert sums.add_up()


async def test_what_failed_by_our_fault_counts_as_waiting_for_a_container(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_module, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))
    faults = [SandboxFaultError(message="a test") for _ in range(4)]
    rig, sums = make_rig(FakeSandbox(faults=faults)), Sums()
    await rig.judge(message("s-1", "python"))
    assert sums.counts() == dict.fromkeys(("queued", "dedupe", "acquire", "publish", "ack"), 1)
    assert sums.add_up()


async def test_a_result_that_is_given_again_is_a_repeat(make_rig: Callable[..., Rig]):
    rig = make_rig()
    await rig.judge(message("s-1", "python"))
    before = value("evalx_repeats_total")
    await rig.judge(message("s-1", "python"))
    assert value("evalx_repeats_total") == before + 1


# --- the log


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is logged at the end of records, whatever else the process logs."""
    capture = LogCapture()
    monkeypatch.setattr(timing, "log", structlog.wrap_logger(None, [capture], structlog.BoundLogger))
    return capture.entries


def times(line: dict[str, Any]) -> list[str]:
    return [name for name in line if name.endswith("_ms")]


async def test_each_submission_has_one_line_with_its_stage_times(make_rig: Callable[..., Rig], lines: list[Any]):
    rig = make_rig()
    await rig.judge(message("s-1"), age_s=100.0)
    await rig.judge(message("s-2"))
    await rig.judge(message("s-3", language="cobol"))
    judged, known, rejected = lines
    assert [(one["submission"], one["source"]) for one in lines] == [
        ("s-1", "executed"),
        ("s-2", "result_cache"),
        ("s-3", None),
    ]
    assert {(one["event"], one["lane"]) for one in lines} == {("submission_finished", "normal")}
    assert times(judged) == ["total_ms", *(f"{stage}_ms" for stage in STAGES)]
    assert sum(judged[f"{stage}_ms"] for stage in STAGES) == pytest.approx(judged["total_ms"], abs=0.1)
    assert judged["queued_ms"] >= 100_000
    assert (judged["status"], judged["verdict"], judged["language"], judged["tests"]) == ("judged", "AC", "c", 1)
    assert times(known) == ["total_ms", "queued_ms", "dedupe_ms", "publish_ms", "ack_ms"]
    assert (rejected["status"], rejected["verdict"], rejected["error"]) == ("rejected", None, "unknown_language")


async def test_a_record_without_an_id_has_a_line_too(make_rig: Callable[..., Rig], lines: list[Any]):
    await make_rig().judge(b"no JSON")
    (line,) = lines
    assert (line["submission"], line["status"], line["error"]) == (None, "dead_letter", "not_json")
    assert times(line) == ["total_ms", "queued_ms", "publish_ms", "ack_ms"]


async def test_no_line_has_anything_of_a_program_or_its_tests(
    make_rig: Callable[..., Rig], lines: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_module, "RETRY_PAUSES_S", ())
    tests = [{"stdin": "hush-in", "expected_output": "hush-out"}]
    fields = {"code": "hush-code", "metadata": {"key": "hush-data"}, "tests": tests}
    rig = make_rig(FakeSandbox(faults=[SandboxFaultError(message="a test")]))
    for submission, wrong in (("s-1", {}), ("s-2", {}), ("s-1", {"code": "hush-other"}), ("s-3", {"limits": "hush"})):
        await rig.judge(message(submission, **{**fields, **wrong}))
    assert [line["status"] for line in lines] == ["judge_error", "judged", "rejected", "rejected"]
    assert "hush" not in repr(lines)


# --- what is looked up now and then


async def test_the_lanes_tell_the_oldest_that_waits(make_rig: Callable[..., Rig]):
    gate = asyncio.Event()
    rig = make_rig(FakeSandbox(gate=gate))
    gauges = Gauges(rig.lanes, rig.pipeline.flying)
    events = [rig.send(message("s-1", cache="bypass"))]
    async with asyncio.timeout(10):
        while not rig.sandbox.jobs:  # noqa: ASYNC110  an event of a test
            await asyncio.sleep(0)
    # The older one arrives later.
    events += [rig.send(message(f"s-{age}", cache="bypass"), partition=age % 4, age_s=age) for age in (60, 601)]
    gauges.look()
    assert [value("evalx_lane_in_flight", lane=lane) for lane in ("high", "normal", "low")] == [0, 1, 0]
    assert value("evalx_lane_waiting", lane="high") == 2
    assert value("evalx_lane_oldest_waiting_seconds", lane="high") >= 601
    assert value("evalx_lane_oldest_waiting_seconds", lane="low") == 0
    gate.set()
    async with asyncio.timeout(10):
        while not all(event.acked for event in events):  # noqa: ASYNC110  an event of a test
            await asyncio.sleep(0)
    gauges.look()
    assert value("evalx_lane_oldest_waiting_seconds", lane="high") == 0


def test_the_brokers_lag_is_told_by_lane_and_forgotten_when_it_is_silent():
    tell_lag(SETTINGS, [PartitionLag(4, "normal", 5, 9, 4), PartitionLag(5, "normal", 0, 3, 3)])
    assert value("evalx_group_lag", lane="normal") == 7
    assert REGISTRY.get_sample_value("evalx_group_lag", {"lane": "low"}) == 0
    forget_lag()
    assert REGISTRY.get_sample_value("evalx_group_lag", {"lane": "normal"}) is None

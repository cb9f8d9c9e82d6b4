"""A job gives its slots up between two tests, takes one again, and its time stands still in between."""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple

import pytest

from evalx.errors import SandboxFaultError
from evalx.sandbox import container as container_module
from evalx.sandbox.channel import AttachChannel
from evalx.sandbox.container import Container
from evalx.sandbox.protocol import Bounds, Feature, Job, Reply, Request
from evalx.sandbox.slots import CpuSlots
from evalx.sandbox.spec import ContainerSpec
from evalx.sandbox.underway import Underway

HIGH, LOW = 1, 5
SPEC = ContainerSpec(image="x", labels={}, memory_bytes=1, pids=1, work_bytes=1 << 20, work_inodes=100)
BOUNDS = Bounds(cpu_time_ms=1, wall_time_ms=1, memory_bytes=1, output_bytes=1, file_bytes=2, processes=1)
JOB = Job(argv=("/box/main",), env=(), bounds=BOUNDS, inputs=(b"", b""), parallel=1)


class _Message(NamedTuple):
    stream: int
    data: bytes


class Runner:
    """The other end of a container's stream, as the test wants it."""

    def __init__(self, features: Feature = Feature.ANSWERS_PARALLEL) -> None:
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.bounds: list[int] = []
        self.pings = 0
        self.container = Container(SPEC, type("Handle", (), {"id": "0" * 64}), AttachChannel(self, "0" * 12))
        self.container._features = features

    async def write_in(self, data: bytes) -> None:
        self.pings += data[4] == Request.PING
        if data[4] == Request.PARALLEL:
            self.bounds.append(int.from_bytes(data[9:11], "little"))

    async def read_out(self) -> _Message:
        return _Message(1, await self._answers.get())

    async def answer(self, kind: Reply, payload: bytes) -> None:
        self._answers.put_nowait(struct.pack("<IB", len(payload) + 1, kind) + payload)
        await settle()

    async def running(self, count: int) -> None:
        await self.answer(Reply.RUNNING, struct.pack("<IH", 0, count))

    async def finish(self) -> None:
        for index in range(len(JOB.inputs)):
            await self.answer(Reply.RESULT, struct.pack("<IBiBQQQQBI", index, 0, 0, 0, 1, 1, 1, 1, 0, 0))
        await self.answer(Reply.DONE, struct.pack("<IB", 0, 1))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def judge(slots: CpuSlots, runner: Runner) -> int:
    """A job of the low lane from its slot to its end; how many of its runs have ended."""
    ended = []
    async with slots.take(1, LOW) as grant:
        underway = Underway(runner.container, grant, ended.append)
        try:
            await runner.container.execute(JOB, underway.result, (), underway)
        finally:
            await underway.end()
    return len(ended)


async def test_a_job_makes_way_and_goes_on():
    slots, runner = CpuSlots(1), Runner()
    low = asyncio.create_task(judge(slots, runner))
    await settle()
    high = slots.take(1, HIGH, borrows=True)
    waiting = asyncio.create_task(high.__aenter__())
    await settle()
    assert (runner.bounds, waiting.done()) == ([0], False)
    await runner.running(0)
    assert waiting.done()
    assert runner.bounds == [0]
    await high.__aexit__(None, None, None)
    await settle()
    assert runner.bounds == [0, 1]
    await runner.running(1)
    await runner.finish()
    assert await low == 2


async def test_a_job_that_ends_first_gives_all_it_has():
    slots, runner = CpuSlots(1), Runner()
    low = asyncio.create_task(judge(slots, runner))
    await settle()
    high = slots.take(1, HIGH, borrows=True)
    waiting = asyncio.create_task(high.__aenter__())
    await settle()
    await runner.finish()
    assert await low == 2
    assert (await waiting).numbers == [0]
    await high.__aexit__(None, None, None)


async def test_a_runner_that_would_not_answer_is_not_asked():
    slots, runner = CpuSlots(1), Runner(Feature.KEPT_FILES)
    low = asyncio.create_task(judge(slots, runner))
    await settle()
    high = slots.take(1, HIGH, borrows=True)
    waiting = asyncio.create_task(high.__aenter__())
    await settle()
    assert runner.bounds == []
    await runner.finish()
    await low
    assert (await waiting).numbers == [0]
    await high.__aexit__(None, None, None)


async def test_time_stands_still_meanwhile_and_only_then(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(container_module, "JOB_GRACE_S", 0.2)
    slots, runner = CpuSlots(1), Runner()
    low = asyncio.create_task(judge(slots, runner))
    await settle()
    high = slots.take(1, HIGH, borrows=True)
    waiting = asyncio.create_task(high.__aenter__())
    await settle()
    await runner.running(0)
    await asyncio.sleep(0.4)
    assert not low.done()
    assert waiting.done()
    await high.__aexit__(None, None, None)
    with pytest.raises(SandboxFaultError, match="within its limits"):
        await low
    async with asyncio.timeout(1), slots.take(1, LOW) as grant:
        assert grant.numbers == [0]


async def test_a_container_that_dies_while_it_makes_way_costs_no_slot():
    slots, runner = CpuSlots(1), Runner()
    low = asyncio.create_task(judge(slots, runner))
    await settle()
    high = slots.take(1, HIGH, borrows=True)
    waiting = asyncio.create_task(high.__aenter__())
    await settle()
    await runner.running(0)
    await runner.answer(Reply.FATAL, b"gone")
    with pytest.raises(SandboxFaultError):
        await low
    assert waiting.done()
    await high.__aexit__(None, None, None)
    async with asyncio.timeout(1), slots.take(1, LOW) as grant:
        assert grant.numbers == [0]


async def test_a_long_job_is_pinged_until_it_ends_and_a_short_one_never(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(container_module, "PING_INTERVAL_S", 0.02)
    slots, runner = CpuSlots(1), Runner()
    for pause, pinged in ((0.0, False), (0.1, True)):
        low = asyncio.create_task(judge(slots, runner))
        await settle()
        await asyncio.sleep(pause)
        await runner.finish()
        assert await low == 2
        pings = runner.pings
        assert (pings >= 2) == pinged
        await asyncio.sleep(0.05)
        assert runner.pings == pings

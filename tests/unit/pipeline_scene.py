"""A worker without its edges, for the tests of the way of one record."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from evalx.agents.intake import Intake
from evalx.agents.lanes import Lanes
from evalx.agents.pipeline import Pipeline
from evalx.agents.records import Record
from evalx.agents.sequencer import Sequencer
from evalx.cache.claims import Claims
from evalx.cache.holding import Keeper
from evalx.cache.link import Link
from evalx.engine import Engine
from evalx.languages import Registry
from evalx.settings import Settings
from evalx.testing import FakeEvent, FakeFlow, FakePublisher, FakeSandbox, Journal, MemoryCache

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
        self.claims = Claims(Keeper(Link(None, timeout_ms=50)), prefix="unit", ttl_s=60)
        self.engine = Engine(REGISTRY, self.sandbox, MemoryCache(self.journal))
        self.pipeline = Pipeline(self.lanes, self.sequencer, self.engine, self.claims, self.publisher, "host:1")  # type: ignore[arg-type]
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


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.001)

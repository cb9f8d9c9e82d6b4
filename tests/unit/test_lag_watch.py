"""Watching the lag ends at Ctrl-C, whenever it comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from evalx.cli import lag
from evalx.settings import Settings


class SwallowingReader:
    """As a client library that ends a wait of its own in the moment of the cancellation."""

    def __init__(self, settings: Settings) -> None:
        self.reads = 0

    async def __aenter__(self) -> SwallowingReader:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def read_all(self) -> list[Any]:
        self.reads += 1
        assert self.reads < 3, "it went on after the cancellation"
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return []
        return []


async def test_a_cancellation_that_was_swallowed_is_heeded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lag, "LagReader", SwallowingReader)
    work = asyncio.create_task(lag._look(Settings(), partitions=False, interval_s=60.0, as_json=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await work
